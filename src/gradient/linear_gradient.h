// Gradients of a linear y = x Wᵀ + b, given g = ∂loss/∂y: of its input, g W, and of its weight, gᵀ x. Both are dot products
// of rows (Kernels::gemm_nt) after a transposition. f32; every element is one fixed-order sum for a matrix of at most
// kSlabFloats weights, else a sum of such, whatever the number of threads. With bf16 products both factors are rounded to
// bfloat16 and summed in f32 (Kernels::products_bf16, whose bits depend on the instruction set).
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "base/aligned.h"
#include "base/threads.h"
#include "model/model.h"

namespace tsubu {

// x (n_rows, n_cols) with leading dimension ldx → y (n_cols, n_rows) with leading dimension ldy, in floats.
void transpose(const float* x, size_t ldx, size_t n_rows, size_t n_cols, float* y, size_t ldy);
// The same on all threads; y has leading dimension n_rows padded (padded_stride).
size_t padded_stride(size_t n);
void transpose(const float* x, size_t n_rows, size_t n_cols, AlignedVector<float>& y, ThreadPool& pool);

class LinearGradient {
 public:
  explicit LinearGradient(bool bf16_products = false) : bf16_(bf16_products) {}
  // out (n_tokens, n_cols) = g (n_tokens, n_rows) · weight, whose rows are decoded some at a time.
  void input(const ModelTensor& weight, const float* g, size_t n_tokens, float* out, ThreadPool& pool);
  // sum (n_rows, n_cols) += gᵀ x; x is (n_tokens, n_cols), g (n_tokens, n_rows).
  void weight(const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows, float* sum,
              ThreadPool& pool);
  // The same product, rows [first, first + n) of it (n, n_cols) at a time, on all threads; rows come once.
  using VisitRows = std::function<void(size_t first, size_t n, const float* product)>;
  void weight_rows(const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows, const VisitRows& visit,
                   ThreadPool& pool);
  uint64_t size_bytes() const;

 private:
  void input_bf16(const ModelTensor& weight, const float* g, size_t n_tokens, float* out, ThreadPool& pool);
  void weight_rows_bf16(const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows,
                        const VisitRows& visit, ThreadPool& pool);
  bool bf16_ = false;
  AlignedVector<uint32_t> panels_, pairs_, left_;  // of bfloat16 products: right factor, rows of pairs, left factor
  AlignedVector<float> transposed_, other_, part_;
  std::vector<AlignedVector<float>> rows_;  // one for each worker
};

// What a LinearGradient holds after such calls: size_bytes() of one on n_threads.
class LinearGradientSizes {
 public:
  explicit LinearGradientSizes(bool bf16_products = false) : bf16_(bf16_products) {}
  void input(uint64_t n_rows, uint64_t n_cols, uint64_t n_tokens);
  void weight(uint64_t n_rows, uint64_t n_cols, uint64_t n_tokens);
  uint64_t bytes(int n_threads) const;

 private:
  bool bf16_ = false;
  uint64_t panels_ = 0, pairs_ = 0, left_ = 0, transposed_ = 0, other_ = 0, part_ = 0, rows_ = 0;
};

}  // namespace tsubu
