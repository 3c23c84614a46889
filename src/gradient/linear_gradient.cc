#include "gradient/linear_gradient.h"

#include <algorithm>
#include <cstdint>

#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr size_t kSlabFloats = size_t{1} << 23;  // of a weight that are transposed at a time
constexpr size_t kSquare = 16;                   // of the kernel's transposition
constexpr size_t kTile = 64;                     // rows of one product's item
constexpr size_t kPanel = 16;                    // columns of a panel of bfloat16 pairs
constexpr size_t kPanels = 8;                    // of one item
constexpr size_t kPairedRows = 96;               // of a weight's gradient in bfloat16: whole tiles of the kernel

// Pairs along the summed dimension, padded as products_bf16 wants them.
size_t n_pairs_of(size_t n) { return (n + 2 * kPanel - 1) / (2 * kPanel) * kPanel; }

void grow(auto& buffer, size_t n) {
  if (buffer.size() < n) buffer.resize(n);
}

// Rows `first` and `second` of the summed dimension (nullptr: zeros) as pair `pair` of every panel of n_cols columns.
void pair_into_panels(const float* first, const float* second, size_t n_cols, size_t n_pairs, size_t pair, const float* zeros,
                      uint32_t* panels) {
  for (size_t c = 0; c < n_cols; c += kPanel)
    kernels().pair_rows_bf16(first ? first + c : zeros, second ? second + c : zeros, kPanel, panels + c * n_pairs + pair * kPanel);
}

size_t slab_rows(size_t n_cols) { return std::max(kTile, kSlabFloats / n_cols / kTile * kTile); }
// Rows of a weight whose pairs are in memory at a time.
size_t paired_slab_rows(size_t n_cols) {
  return std::max(2 * kPanel, 2 * kSlabFloats / n_cols / (2 * kPanel) * (2 * kPanel));
}

}  // namespace

size_t padded_stride(size_t n) {
  return (n + kSquare - 1) / kSquare * kSquare + kSquare;  // rows a power of two apart share cache lines
}

void transpose(const float* x, size_t ldx, size_t n_rows, size_t n_cols, float* y, size_t ldy) {
  const size_t rows = n_rows / kSquare * kSquare, cols = n_cols / kSquare * kSquare;
  for (size_t c = 0; c < cols; c += kSquare)
    for (size_t r = 0; r < rows; r += kSquare)
      kernels().transpose_pairs(reinterpret_cast<const uint32_t*>(x + r * ldx + c), ldx,
                                reinterpret_cast<uint32_t*>(y + c * ldy + r), ldy);
  for (size_t r = 0; r < n_rows; ++r)
    for (size_t c = r < rows ? cols : 0; c < n_cols; ++c) y[c * ldy + r] = x[r * ldx + c];
}

void transpose(const float* x, size_t n_rows, size_t n_cols, AlignedVector<float>& y, ThreadPool& pool) {
  const size_t stride = padded_stride(n_rows);
  if (y.size() < n_cols * stride) y.resize(n_cols * stride);
  pool.parallel_for((n_cols + kTile - 1) / kTile, [&](size_t item, int) {
    const size_t first = item * kTile, n = std::min(kTile, n_cols - first);
    transpose(x + first, n_cols, n_rows, n, y.data() + first * stride, stride);
  });
}

void LinearGradient::input(const ModelTensor& weight, const float* g, size_t n_tokens, float* out, ThreadPool& pool) {
  const size_t n_rows = weight.n_rows(), n_cols = weight.n_cols();
  if (bf16_ && n_cols % kPanel == 0) return input_bf16(weight, g, n_tokens, out, pool);
  const size_t slab = slab_rows(n_cols);
  rows_.resize(static_cast<size_t>(pool.size()));
  for (size_t first = 0; first < n_rows; first += slab) {
    const size_t count = std::min(slab, n_rows - first), stride = padded_stride(count);
    if (transposed_.size() < n_cols * stride) transposed_.resize(n_cols * stride);
    pool.parallel_for((count + kSquare - 1) / kSquare, [&](size_t item, int worker) {
      AlignedVector<float>& rows = rows_[static_cast<size_t>(worker)];
      if (rows.size() < kSquare * n_cols) rows.resize(kSquare * n_cols);
      const size_t row = item * kSquare, n = std::min(kSquare, count - row);
      weight.read_rows(first + row, n, rows.data());
      transpose(rows.data(), n_cols, n, n_cols, transposed_.data() + row, stride);
    });
    const bool adds = first > 0;
    if (adds && part_.size() < n_tokens * n_cols) part_.resize(n_tokens * n_cols);
    float* to = adds ? part_.data() : out;
    pool.parallel_for((n_cols + kTile - 1) / kTile, [&](size_t item, int) {
      const size_t col = item * kTile, n = std::min(kTile, n_cols - col);
      kernels().gemm_nt(transposed_.data() + col * stride, stride, g + first, n_rows, to + col, n_cols, n, n_tokens,
                        count);
      if (!adds) return;
      for (size_t t = 0; t < n_tokens; ++t)
        kernels().add(out + t * n_cols + col, to + t * n_cols + col, out + t * n_cols + col, n);
    });
  }
}

void LinearGradient::weight_rows(const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows,
                                 const VisitRows& visit, ThreadPool& pool) {
  if (bf16_ && n_cols % kPanel == 0) return weight_rows_bf16(x, g, n_tokens, n_cols, n_rows, visit, pool);
  const size_t stride = padded_stride(n_tokens);
  transpose(x, n_tokens, n_cols, transposed_, pool);
  transpose(g, n_tokens, n_rows, other_, pool);
  rows_.resize(static_cast<size_t>(pool.size()));
  pool.parallel_for((n_rows + kTile - 1) / kTile, [&](size_t item, int worker) {
    AlignedVector<float>& product = rows_[static_cast<size_t>(worker)];
    if (product.size() < kTile * n_cols) product.resize(kTile * n_cols);
    const size_t row = item * kTile, n = std::min(kTile, n_rows - row);
    kernels().gemm_nt(transposed_.data(), stride, other_.data() + row * stride, stride, product.data(), n_cols, n_cols,
                      n, n_tokens);
    visit(row, n, product.data());
  });
}

// The summed dimension is the weight's rows, a slab of them at a time.
void LinearGradient::input_bf16(const ModelTensor& weight, const float* g, size_t n_tokens, float* out, ThreadPool& pool) {
  const size_t n_rows = weight.n_rows(), n_cols = weight.n_cols();
  const size_t slab = paired_slab_rows(n_cols);
  rows_.resize(static_cast<size_t>(pool.size()));
  for (size_t first = 0; first < n_rows; first += slab) {
    const size_t count = std::min(slab, n_rows - first), n_pairs = n_pairs_of(count), ld = n_pairs + kPanel;
    grow(panels_, n_cols * n_pairs);
    grow(left_, n_tokens * ld);
    pool.parallel_for(n_pairs / kPanel, [&](size_t item, int worker) {
      AlignedVector<float>& rows = rows_[static_cast<size_t>(worker)];
      grow(rows, (2 * kPanel + 1) * n_cols);
      const size_t row = item * 2 * kPanel, n = row < count ? std::min(2 * kPanel, count - row) : 0;
      if (n > 0) weight.read_rows(first + row, n, rows.data());
      std::fill_n(rows.data() + n * n_cols, (2 * kPanel + 1 - n) * n_cols, 0.0f);
      for (size_t p = 0; p < kPanel; ++p)
        pair_into_panels(rows.data() + 2 * p * n_cols, rows.data() + (2 * p + 1) * n_cols, n_cols, n_pairs, item * kPanel + p, nullptr,
                         panels_.data());
    });
    pool.parallel_for((n_tokens + kPanel - 1) / kPanel, [&](size_t item, int) {
      for (size_t t = item * kPanel; t < std::min(n_tokens, (item + 1) * kPanel); ++t) {
        auto* to = reinterpret_cast<uint16_t*>(left_.data() + t * ld);
        kernels().round_to_bf16(g + t * n_rows + first, count, to);
        std::fill(to + count, to + 2 * n_pairs, uint16_t{0});
      }
    });
    const bool adds = first > 0;
    if (adds) grow(part_, n_tokens * n_cols);
    float* to = adds ? part_.data() : out;
    const size_t n_panels = n_cols / kPanel;
    pool.parallel_for((n_panels + kPanels - 1) / kPanels, [&](size_t item, int) {
      const size_t panel = item * kPanels, n = std::min(kPanels, n_panels - panel), col = panel * kPanel;
      kernels().products_bf16(left_.data(), ld, panels_.data() + col * n_pairs, n, n_pairs, n_tokens, to + col, n_cols);
      if (!adds) return;
      for (size_t t = 0; t < n_tokens; ++t)
        kernels().add(out + t * n_cols + col, to + t * n_cols + col, out + t * n_cols + col, n * kPanel);
    });
  }
}

// The summed dimension is the tokens.
void LinearGradient::weight_rows_bf16(const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows,
                                      const VisitRows& visit, ThreadPool& pool) {
  const size_t n_pairs = n_pairs_of(n_tokens), ld = n_pairs + kPanel;
  const size_t row_stride = padded_stride(n_rows);
  grow(panels_, n_cols * n_pairs);
  grow(pairs_, n_pairs * row_stride);
  grow(left_, (n_rows + kPanel) * ld);
  const std::vector<float> zeros(std::max(n_rows, kPanel));
  pool.parallel_for(n_pairs, [&](size_t pair, int) {
    const auto row = [&](const float* from, size_t width, size_t i) { return i < n_tokens ? from + i * width : nullptr; };
    pair_into_panels(row(x, n_cols, 2 * pair), row(x, n_cols, 2 * pair + 1), n_cols, n_pairs, pair, zeros.data(), panels_.data());
    const float *a = row(g, n_rows, 2 * pair), *b = row(g, n_rows, 2 * pair + 1);
    kernels().pair_rows_bf16(a ? a : zeros.data(), b ? b : zeros.data(), n_rows, pairs_.data() + pair * row_stride);
  });
  rows_.resize(static_cast<size_t>(pool.size()));
  pool.parallel_for((n_rows + kPairedRows - 1) / kPairedRows, [&](size_t item, int worker) {
    AlignedVector<float>& product = rows_[static_cast<size_t>(worker)];
    grow(product, kPairedRows * n_cols);
    const size_t row = item * kPairedRows, n = std::min(kPairedRows, n_rows - row);
    // Whole squares of pairs: the padded columns beyond the last row are never read as rows.
    for (size_t r = row; r < row + n; r += kSquare)
      for (size_t p = 0; p < n_pairs; p += kSquare)
        kernels().transpose_pairs(pairs_.data() + p * row_stride + r, row_stride, left_.data() + r * ld + p, ld);
    kernels().products_bf16(left_.data() + row * ld, ld, panels_.data(), n_cols / kPanel, n_pairs, n, product.data(), n_cols);
    visit(row, n, product.data());
  });
}

void LinearGradient::weight(const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows, float* sum,
                            ThreadPool& pool) {
  weight_rows(
      x, g, n_tokens, n_cols, n_rows,
      [&](size_t first, size_t n, const float* product) {
        kernels().add(sum + first * n_cols, product, sum + first * n_cols, n * n_cols);
      },
      pool);
}

uint64_t LinearGradient::size_bytes() const {
  uint64_t floats = transposed_.size() + other_.size() + part_.size();
  floats += panels_.size() + pairs_.size() + left_.size();
  for (const auto& rows : rows_) floats += rows.size();
  return floats * sizeof(float);
}

void LinearGradientSizes::input(uint64_t n_rows, uint64_t n_cols, uint64_t n_tokens) {
  const auto hold = [](uint64_t& size, uint64_t n) { size = std::max(size, n); };
  const bool pairs = bf16_ && n_cols % kPanel == 0;
  const uint64_t slab = pairs ? paired_slab_rows(n_cols) : slab_rows(n_cols), count = std::min<uint64_t>(slab, n_rows);
  if (n_rows > slab) hold(part_, n_tokens * n_cols);
  if (!pairs) {
    hold(transposed_, n_cols * padded_stride(count));
    return hold(rows_, kSquare * n_cols);
  }
  hold(panels_, n_cols * n_pairs_of(count));
  hold(left_, n_tokens * (n_pairs_of(count) + kPanel));
  hold(rows_, (2 * kPanel + 1) * n_cols);
}

void LinearGradientSizes::weight(uint64_t n_rows, uint64_t n_cols, uint64_t n_tokens) {
  const auto hold = [](uint64_t& size, uint64_t n) { size = std::max(size, n); };
  if (!bf16_ || n_cols % kPanel != 0) {
    hold(transposed_, n_cols * padded_stride(n_tokens));
    hold(other_, n_rows * padded_stride(n_tokens));
    return hold(rows_, kTile * n_cols);
  }
  const uint64_t n_pairs = n_pairs_of(n_tokens);
  hold(panels_, n_cols * n_pairs);
  hold(pairs_, n_pairs * padded_stride(n_rows));
  hold(left_, (n_rows + kPanel) * (n_pairs + kPanel));
  hold(rows_, kPairedRows * n_cols);
}

uint64_t LinearGradientSizes::bytes(int n_threads) const {
  return (panels_ + pairs_ + left_ + transposed_ + other_ + part_ + static_cast<uint64_t>(n_threads) * rows_) * sizeof(float);
}

}  // namespace tsubu
