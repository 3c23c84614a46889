// One linear with its weights, its input or both in a scheme: y = x̂ · ŵᵀ + bias.
// As integers: y = Σ over stretches of columns with one scale each of float(Σ codes · codes, exact) · (scale of the
// weights · scale of the input); as floats: the dot product of the rounded values. Outlier columns of the input meet
// the source's weights in float, and their product is added.
#pragma once

#include <memory>
#include <vector>

#include "engine/linear.h"
#include "engine/numerics.h"
#include "engine/quantized_inputs.h"
#include "engine/quantized_weights.h"

namespace tsubu {

// What one worker needs.
struct QuantizedScratch {
  std::vector<float> weights, outlier_weights, products;
  std::vector<int32_t> sums;
  size_t size_bytes() const;
};

class QuantizedLinear {
 public:
  // source must outlive this one. Throws Error(kUsage) when static scales
  // are wanted and not there, or not to be had.
  // name: of its weight, for static magnitudes.
  QuantizedLinear(const Linear& source, const std::string& name, const Numerics& numerics, ThreadPool& pool);
  // Whether inputs are wanted as codes.
  bool as_codes() const { return as_codes_; }
  // Of the input, for static scales; 0 when they are not.
  float static_magnitude() const { return static_magnitude_; }
  // y is (n_tokens, n_rows). scratch: one for each worker of the pool; it grows as needed.
  void run(const QuantizedInputs& x, float* y, std::span<QuantizedScratch> scratch, ThreadPool& pool) const;
  size_t weight_bytes() const { return weights_ ? weights_->size_bytes() : 0; }

 private:
  // Rows [first, first + n) of y for all tokens.
  void run_codes(const QuantizedInputs& x, size_t first, size_t n, float* y, QuantizedScratch& scratch) const;
  void run_floats(const QuantizedInputs& x, size_t first, size_t n, float* y, QuantizedScratch& scratch) const;
  void add_outliers(const QuantizedInputs& x, size_t first, size_t n, float* y, QuantizedScratch& scratch) const;

  const Linear& source_;
  std::unique_ptr<QuantizedWeights> weights_;  // nullptr: the source's
  bool as_codes_ = false;
  float static_magnitude_ = 0;
};

}  // namespace tsubu
