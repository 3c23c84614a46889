#include "round/round.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "base/aligned.h"
#include "base/error.h"
#include "base/progress.h"
#include "kernel/grid_panel.h"
#include "kernel/kernels.h"
#include "round/span.h"

namespace tsubu {
namespace {

constexpr size_t kLaneRows = kPanelRows;
constexpr size_t kItemRows = 6 * kLaneRows;  // rows that share a product with H: whole tiles of gemm_nt on every ISA

// One worker's memory.
struct Scratch {
  AlignedVector<float> residual;  // (kItemRows, n): w - ŵ
  AlignedVector<float> product;   // (kItemRows, kSpan)
  AlignedVector<float> w, t;      // (kSpan, kLaneRows)
  std::unique_ptr<Span> span;

  Scratch(size_t n, const TypeInfo& type)
      : residual(kItemRows * n),
        product(kItemRows * kSpan),
        w(kSpan * kLaneRows),
        t(kSpan * kLaneRows),
        span(make_span(type)) {}
};

class Rounder {
 public:
  Rounder(const float* w, size_t n_rows, const TypeInfo& type, const Curvature& c, const RoundOptions& options,
          std::byte* out, ThreadPool& pool)
      : w_(w),
        n_rows_(n_rows),
        n_(c.n()),
        type_(type),
        c_(c),
        options_(options),
        out_(out),
        pool_(pool),
        row_bytes_(n_ / type.block_len * type.block_bytes) {}

  void run(bool has_encoding) {
    std::vector<std::unique_ptr<Scratch>> scratch(static_cast<size_t>(pool_.size()));
    pool_.parallel_for((n_rows_ + kItemRows - 1) / kItemRows, [&](size_t item, int worker) {
      throw_if_interrupted();
      auto& s = scratch[static_cast<size_t>(worker)];
      if (!s) s = std::make_unique<Scratch>(n_, type_);
      const size_t first = item * kItemRows, rows = std::min(kItemRows, n_rows_ - first);
      if (has_encoding)
        load_residual(*s, first, rows);
      else
        round_item(*s, first, rows);
      for (int pass = 0; pass < options_.descent_passes; ++pass) descend_item(*s, first, rows);
    });
  }

 private:
  size_t span_cols(size_t first_col) const { return std::min<size_t>(kSpan, n_ - first_col); }

  void load_residual(Scratch& s, size_t first, size_t rows) {
    for (size_t r = 0; r < rows; ++r) {
      float* out = s.residual.data() + r * n_;
      kernels().decode[type_.index](out_ + (first + r) * row_bytes_, out, n_);
      for (size_t c = 0; c < n_; ++c) out[c] = w_[(first + r) * n_ + c] - out[c];
    }
  }

  void round_item(Scratch& s, size_t first, size_t rows) {
    std::fill(s.residual.begin(), s.residual.end(), 0.0f);
    if (!options_.feedback) {
      for (size_t r = 0; r < rows; ++r)
        kernels().encode[type_.index](w_ + (first + r) * n_, c_.diagonal().data(), out_ + (first + r) * row_bytes_, n_);
      return load_residual(s, first, rows);
    }
    for (size_t col = 0; col < n_; col += kSpan) {
      const size_t n_cols = span_cols(col);
      if (col > 0)
        kernels().gemm_nt(c_.m() + col * n_, n_, s.residual.data(), n_, s.product.data(), kSpan, n_cols, rows, col);
      s.span->place(col, n_cols);
      for (size_t lane0 = 0; lane0 < rows; lane0 += kLaneRows) {
        const size_t lanes = std::min(kLaneRows, rows - lane0);
        for (size_t j = 0; j < n_cols; ++j)
          for (size_t l = 0; l < kLaneRows; ++l) {
            const float v = l < lanes ? w_[(first + lane0 + l) * n_ + col + j] : 0.0f;
            s.w[j * kLaneRows + l] = v;
            s.t[j * kLaneRows + l] = l < lanes && col > 0 ? v + s.product[(lane0 + l) * kSpan + j] : v;
          }
        s.span->feed(s.w.data(), s.t.data(), c_, lanes, options_.choose_scales);
        store_span(s, first + lane0, lane0, col, n_cols, lanes);
      }
    }
  }

  std::byte* blocks(size_t row, size_t col) const {
    return out_ + row * row_bytes_ + col / type_.block_len * type_.block_bytes;
  }

  // The span into the encoded rows and the residual. first_row: of the lanes, in the matrix; lane0: in the item.
  void store_span(Scratch& s, size_t first_row, size_t lane0, size_t col, size_t n_cols, size_t lanes) {
    const float* value = s.span->values();
    for (size_t l = 0; l < lanes; ++l) {
      s.span->store(l, blocks(first_row + l, col));
      const float* w = w_ + (first_row + l) * n_ + col;
      float* residual = s.residual.data() + (lane0 + l) * n_ + col;
      for (size_t j = 0; j < n_cols; ++j) residual[j] = w[j] - value[j * kLaneRows + l];
    }
  }

  void descend_item(Scratch& s, size_t first, size_t rows) {
    for (size_t col = 0; col < n_; col += kSpan) {
      const size_t n_cols = span_cols(col);
      kernels().gemm_nt(c_.h() + col * n_, n_, s.residual.data(), n_, s.product.data(), kSpan, n_cols, rows, n_);
      s.span->place(col, n_cols);
      for (size_t lane0 = 0; lane0 < rows; lane0 += kLaneRows) {
        const size_t lanes = std::min(kLaneRows, rows - lane0);
        for (size_t l = 0; l < kLaneRows; ++l) {
          if (l < lanes)
            s.span->load(l, blocks(first + lane0 + l, col));
          else
            s.span->load_zeros(l);
        }
        for (size_t j = 0; j < n_cols; ++j)
          for (size_t l = 0; l < kLaneRows; ++l)
            s.t[j * kLaneRows + l] = l < lanes ? s.product[(lane0 + l) * kSpan + j] : 0.0f;
        s.span->descend(s.t.data(), c_, options_.codes_only);
        store_span(s, first + lane0, lane0, col, n_cols, lanes);
      }
    }
  }

  const float* w_;
  size_t n_rows_, n_;
  const TypeInfo& type_;
  const Curvature& c_;
  const RoundOptions& options_;
  std::byte* out_;
  ThreadPool& pool_;
  size_t row_bytes_;
};

}  // namespace

std::unique_ptr<Span> make_span(const TypeInfo& type) {
  if (auto span = make_grid_span(type)) return span;
  return make_lattice_span(type);
}

bool can_round(const TypeInfo& type) { return (type.grid || type.lattice) && type.encode; }

void round_rows(const float* w, size_t n_rows, const TypeInfo& type, const Curvature& curvature,
                const RoundOptions& options, std::byte* out, ThreadPool& pool) {
  if (!can_round(type)) fail(ExitCode::kUnsupported, "type {} has no grid for error feedback", type.name);
  Rounder(w, n_rows, type, curvature, options, out, pool).run(false);
}

void refine_rows(const float* w, size_t n_rows, const TypeInfo& type, const Curvature& curvature,
                 const RoundOptions& options, std::byte* out, ThreadPool& pool) {
  if (!can_round(type)) fail(ExitCode::kUnsupported, "type {} has no grid for coordinate descent", type.name);
  Rounder(w, n_rows, type, curvature, options, out, pool).run(true);
}

double form_error(const float* w, const std::byte* encoded, size_t n_rows, const TypeInfo& type, const float* h,
                  size_t n, ThreadPool& pool) {
  const size_t row_bytes = n / type.block_len * type.block_bytes;
  constexpr size_t kRows = 32;
  const size_t n_items = (n_rows + kRows - 1) / kRows;
  std::vector<double> sums(n_items);
  pool.parallel_for(n_items, [&](size_t item, int) {
    const size_t first = item * kRows, rows = std::min(kRows, n_rows - first);
    std::vector<float> residual(rows * n), product(rows * n);
    kernels().decode[type.index](encoded + first * row_bytes, residual.data(), rows * n);
    for (size_t i = 0; i < rows * n; ++i) residual[i] = w[first * n + i] - residual[i];
    kernels().gemm_nt(h, n, residual.data(), n, product.data(), n, n, rows, n);
    for (size_t r = 0; r < rows; ++r)
      sums[item] += static_cast<double>(kernels().dot(residual.data() + r * n, product.data() + r * n, n));
  });
  double sum = 0;
  for (double v : sums) sum += v;
  return sum;
}

}  // namespace tsubu
