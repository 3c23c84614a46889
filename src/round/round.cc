#include "round/round.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "kernel/grid_panel.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr size_t kLaneRows = kPanelRows;
constexpr size_t kItemRows = 4 * kLaneRows;  // rows that share a product with H

// One worker's memory.
struct Scratch {
  std::vector<float> residual;  // (kItemRows, n): w - ŵ
  std::vector<float> product;   // (kItemRows, kSpan)
  std::vector<float> w, t;      // (kSpan, kLaneRows)
  std::vector<std::byte> block;
  GridPanel panel;
  GridBlock grid;

  Scratch(size_t n, const TypeInfo& type)
      : residual(kItemRows * n),
        product(kItemRows * kSpan),
        w(kSpan * kLaneRows),
        t(kSpan * kLaneRows),
        block(type.block_bytes) {}
};

class Rounder {
 public:
  Rounder(const float* w, size_t n_rows, const TypeInfo& type, const Curvature& c, const RoundOptions& options,
          std::byte* out, ThreadPool& pool)
      : w_(w),
        n_rows_(n_rows),
        n_(c.n()),
        type_(type),
        spec_(type.grid->spec),
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
      for (size_t lane0 = 0; lane0 < rows; lane0 += kLaneRows) {
        const size_t lanes = std::min(kLaneRows, rows - lane0);
        for (size_t j = 0; j < n_cols; ++j)
          for (size_t l = 0; l < kLaneRows; ++l) {
            const float v = l < lanes ? w_[(first + lane0 + l) * n_ + col + j] : 0.0f;
            s.w[j * kLaneRows + l] = v;
            s.t[j * kLaneRows + l] = l < lanes && col > 0 ? v + s.product[(lane0 + l) * kSpan + j] : v;
          }
        feed_span(s, col, n_cols, lanes);
        store_span(s, first + lane0, lane0, col, n_cols, lanes);
      }
    }
  }

  // Sixteen rows of one span: for each block, scales from the compensated weights, then its columns in order.
  void feed_span(Scratch& s, size_t col, size_t n_cols, size_t lanes) {
    GridPanel& p = s.panel;
    p.spec = &spec_;
    p.n_cols = static_cast<int>(n_cols);
    const size_t len = type_.block_len;
    float x[kMaxGridBlock];
    for (size_t b = 0; b < n_cols / len; ++b) {
      for (size_t l = 0; l < kLaneRows; ++l) {
        for (size_t j = 0; j < len; ++j) x[j] = s.t[(b * len + j) * kLaneRows + l];
        if (l < lanes)
          kernels().encode[type_.index](x, c_.diagonal().data() + col + b * len, s.block.data(), len);
        else if (l == lanes)
          kernels().encode[type_.index](x, nullptr, s.block.data(), len);
        type_.grid->unpack(s.block.data(), s.grid);
        set_scales(p, b, l, s.grid);
      }
      kernels().grid_feedback(p, static_cast<int>(b), s.w.data(), s.t.data(), c_.m() + col * n_ + col, n_,
                              c_.pivots().data() + col, options_.choose_scales);
    }
  }

  void set_scales(GridPanel& p, size_t block, size_t lane, const GridBlock& grid) const {
    p.d[block * kLaneRows + lane] = grid.d.value();
    p.dmin[block * kLaneRows + lane] = grid.dmin.value();
    for (size_t i = 0; i < static_cast<size_t>(spec_.n_sub); ++i) {
      const size_t sub = block * static_cast<size_t>(spec_.n_sub) + i;
      p.scale[sub * kLaneRows + lane] = static_cast<float>(grid.scale[i]);
      p.min[sub * kLaneRows + lane] = static_cast<float>(grid.min[i]);
    }
  }

  uint8_t code_of(float level) const {
    if (spec_.even) return static_cast<uint8_t>(static_cast<int>(level - spec_.levels[0]));
    int code = 0;
    while (code + 1 < spec_.n_levels && spec_.levels[code] != level) ++code;
    return static_cast<uint8_t>(code);
  }

  // The panel into the encoded rows and the residual. first_row: of the lanes, in the matrix; lane0: in the item.
  void store_span(Scratch& s, size_t first_row, size_t lane0, size_t col, size_t n_cols, size_t lanes) {
    const GridPanel& p = s.panel;
    const size_t len = type_.block_len, n_sub = static_cast<size_t>(spec_.n_sub);
    for (size_t l = 0; l < lanes; ++l) {
      for (size_t b = 0; b < n_cols / len; ++b) {
        s.grid.d = Half::of(p.d[b * kLaneRows + l]);
        s.grid.dmin = Half::of(p.dmin[b * kLaneRows + l]);
        for (size_t i = 0; i < n_sub; ++i) {
          s.grid.scale[i] = static_cast<int16_t>(p.scale[(b * n_sub + i) * kLaneRows + l]);
          s.grid.min[i] = static_cast<int16_t>(p.min[(b * n_sub + i) * kLaneRows + l]);
        }
        for (size_t j = 0; j < len; ++j) s.grid.codes[j] = code_of(p.level[(b * len + j) * kLaneRows + l]);
        type_.grid->pack(s.grid, out_ + (first_row + l) * row_bytes_ + (col / len + b) * type_.block_bytes);
      }
      const float* w = w_ + (first_row + l) * n_ + col;
      float* residual = s.residual.data() + (lane0 + l) * n_ + col;
      for (size_t j = 0; j < n_cols; ++j) residual[j] = w[j] - p.value[j * kLaneRows + l];
    }
  }

  void load_span(Scratch& s, size_t first_row, size_t col, size_t n_cols, size_t lanes) {
    GridPanel& p = s.panel;
    p.spec = &spec_;
    p.n_cols = static_cast<int>(n_cols);
    const size_t len = type_.block_len;
    for (size_t l = 0; l < kLaneRows; ++l)
      for (size_t b = 0; b < n_cols / len; ++b) {
        if (l < lanes)
          type_.grid->unpack(out_ + (first_row + l) * row_bytes_ + (col / len + b) * type_.block_bytes, s.grid);
        else
          s.grid = {};
        set_scales(p, b, l, s.grid);
        const size_t sub_len = static_cast<size_t>(spec_.sub_len);
        for (size_t j = 0; j < len; ++j) {
          const size_t i = (b * len + j) * kLaneRows + l;
          const float factor = s.grid.d.value() * static_cast<float>(s.grid.scale[j / sub_len]);
          const float offset = s.grid.dmin.value() * static_cast<float>(s.grid.min[j / sub_len]);
          p.level[i] = spec_.levels[s.grid.codes[j]];
          p.value[i] = factor * p.level[i] - offset;
        }
      }
  }

  void descend_item(Scratch& s, size_t first, size_t rows) {
    for (size_t col = 0; col < n_; col += kSpan) {
      const size_t n_cols = span_cols(col);
      kernels().gemm_nt(c_.h() + col * n_, n_, s.residual.data(), n_, s.product.data(), kSpan, n_cols, rows, n_);
      for (size_t lane0 = 0; lane0 < rows; lane0 += kLaneRows) {
        const size_t lanes = std::min(kLaneRows, rows - lane0);
        load_span(s, first + lane0, col, n_cols, lanes);
        for (size_t j = 0; j < n_cols; ++j)
          for (size_t l = 0; l < kLaneRows; ++l)
            s.t[j * kLaneRows + l] = l < lanes ? s.product[(lane0 + l) * kSpan + j] : 0.0f;
        kernels().grid_descend(s.panel, s.t.data(), c_.h() + col * n_ + col, n_, 1, options_.codes_only);
        store_span(s, first + lane0, lane0, col, n_cols, lanes);
      }
    }
  }

  const float* w_;
  size_t n_rows_, n_;
  const TypeInfo& type_;
  const GridSpec& spec_;
  const Curvature& c_;
  const RoundOptions& options_;
  std::byte* out_;
  ThreadPool& pool_;
  size_t row_bytes_;
};

}  // namespace

bool can_round(const TypeInfo& type) { return type.grid && type.encode; }

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
