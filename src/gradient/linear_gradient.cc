#include "gradient/linear_gradient.h"

#include <algorithm>
#include <cstdint>

#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr size_t kSlabFloats = size_t{1} << 23;  // of a weight that are transposed at a time
constexpr size_t kSquare = 16;                   // of the kernel's transposition
constexpr size_t kTile = 64;                     // rows of one product's item

size_t slab_rows(size_t n_cols) { return std::max(kTile, kSlabFloats / n_cols / kTile * kTile); }

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

void LinearGradient::weight(const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows, float* sum,
                            ThreadPool& pool) {
  weight_rows(
      x, g, n_tokens, n_cols, n_rows,
      [&](size_t first, size_t n, const float* product) {
        kernels().add(sum + first * n_cols, product, sum + first * n_cols, n * n_cols);
      },
      pool);
}

uint64_t LinearGradient::slab_floats(uint64_t n_rows, uint64_t n_cols, uint64_t n_tokens) {
  const size_t slab = slab_rows(n_cols);
  return n_cols * padded_stride(std::min<uint64_t>(slab, n_rows)) + (n_rows > slab ? n_tokens * n_cols : 0);
}

uint64_t LinearGradient::size_bytes() const {
  uint64_t floats = transposed_.size() + other_.size() + part_.size();
  for (const auto& rows : rows_) floats += rows.size();
  return floats * sizeof(float);
}

}  // namespace tsubu
