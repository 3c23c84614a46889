// Scales, zeros and tables of simulated formats for the values of one group: by the largest value, by weighted search,
// by HQQ's half-quadratic splitting, and codebooks by k-means.
#pragma once

#include <span>
#include <vector>

#include "codec/bitsandbytes.h"
#include "round/sim_format.h"

namespace tsubu {

struct SimGroup {
  float scale = 0, zero = 0;
};

// The grid of one group, ready to round to.
class SimGrid {
 public:
  SimGrid(const SimFormat& format, SimGroup group)
      : SimGrid(format.levels.data(), static_cast<int>(format.levels.size()), format.even, group) {}
  explicit SimGrid(std::span<const float> table)
      : SimGrid(table.data(), static_cast<int>(table.size()), false, {1, 0}) {}

  // The level nearest to x, as a level (before scale and zero).
  float level(float x) const {
    const float t = x * inverse_ + zero_;
    if (even_) {
      const float inside = t < levels_[0] ? levels_[0] : t > levels_[n_ - 1] ? levels_[n_ - 1] : t;
      return (inside + 0x1.8p23f) - 0x1.8p23f;  // to the nearest integer, ties to even
    }
    if (n_ <= 16) {
      int i = 0;
      for (int k = 0; k + 1 < n_; ++k) i += t > 0.5f * (levels_[k] + levels_[k + 1]);
      return levels_[i];
    }
    int low = 0, high = n_ - 1;  // in low … high
    while (low < high) {
      const int k = (low + high) / 2;
      if (t > 0.5f * (levels_[k] + levels_[k + 1]))
        low = k + 1;
      else
        high = k;
    }
    return levels_[low];
  }
  float value(float level) const { return scale_ * (level - zero_); }

 private:
  SimGrid(const float* levels, int n, bool even, SimGroup g)
      : levels_(levels), n_(n), even_(even), scale_(g.scale), inverse_(g.scale != 0 ? 1 / g.scale : 0), zero_(g.zero) {
    if (!(inverse_ - inverse_ == 0)) scale_ = inverse_ = 0;  // a subnormal scale: all zeros
  }
  const float* levels_;
  int n_;
  bool even_;
  float scale_, inverse_, zero_;
};

// The number that the format stores for a wanted scale. tensor_scale: what E4M3 scales multiply (1 where there is
// none).
float stored_scale(const SimFormat& format, float wanted, float tensor_scale);
float stored_half(float x);
// The tensor's scale that lets the largest group scale fit (NVFP4: absmax / (6 · 448)).
float tensor_scale_for(const SimFormat& format, float absmax);

// The plain rule: the largest magnitude on the outermost level (MXFP4: the power of two of OCP's floor rule;
// asymmetric: the range with 0 in it, zero rounded).
SimGroup fit_nearest(const SimFormat& format, std::span<const float> x, float tensor_scale);

// Σ weight (x - rounded)². weights repeat where they are fewer than x; empty: ones.
double fit_error(const SimFormat& format, SimGroup group, std::span<const float> x, std::span<const float> weight);
// The plain rule first, then shrunk and stretched ranges, each with a least-squares refit for its codes.
std::vector<SimGroup> fit_candidates(const SimFormat& format, std::span<const float> x, std::span<const float> weight,
                                     float tensor_scale);
// The candidate of least error.
SimGroup fit_search(const SimFormat& format, std::span<const float> x, std::span<const float> weight,
                    float tensor_scale);

// HQQ (Badri & Shaji 2023): min over zero (symmetric formats: scale) of ‖x - x̂‖_p^p, p = 0.7, by half-quadratic steps:
// e ← shrink(x - x̂), then zero (scale) by least squares on x - e. Errors are in units of the scale, so the result does
// not depend on the weights' magnitude (with the published code's raw units β = 10 shrinks every error of ordinary
// weights to nothing). The best iterate in the p-norm is returned, the plain rule included.
SimGroup fit_hqq(const SimFormat& format, std::span<const float> x, float tensor_scale);
inline constexpr double kHqqNorm = 0.7;
double lp_error(const SimFormat& format, SimGroup group, std::span<const float> x);  // Σ|x - x̂|^0.7

// Weighted k-means in one dimension: 2^code_bits halves, ascending. Lloyd's steps from the weighted quantiles and from
// even steps, the better one. Source of the weighting: Kim et al. 2306.07629 (SqueezeLLM).
std::vector<float> fit_table(const SimFormat& format, std::span<const float> x, std::span<const float> weight);

// Double quantization of all scales of a tensor (codec/bitsandbytes.h), in place.
DoubleQuantized double_quantize(std::vector<SimGroup>& groups);

}  // namespace tsubu
