// Simulated formats: grids that are no GGUF type, with exact bit accounting. A weight is
//   scale · (level[code] - zero)      zero: an integer of the code's width, or a half where the format says so; else 0
// with one scale (and zero) for each group of columns, row or tensor, or table[code] with one table of halves for each
// row or group. A spec is words between colons, the family first:
//   int2 … int8            levels -2^(b-1) … 2^(b-1)-1; with `asym` 0 … 2^b-1 and an integer zero, `asym=f16` a half
//   fp8_e4m3 fp8_e5m2      8-bit floats (OCP 8-bit Floating Point Specification 1.0)
//   fp4                    E2M1 (OCP Microscaling Formats 1.0)
//   nf4 bnb_fp4            quantiles of the normal distribution (Dettmers et al. 2305.14314), bitsandbytes' FP4;
//                          `double`: the scales in 8 bits
//   mxfp4 nvfp4            E2M1 with E8M0 scales per 32; with E4M3 scales per 16 and one float scale for the tensor
//   powerA:B               levels sign(q)|q|^A, |q| < 2^(B-1); power3 is the cube-root quantizer (Gong et al.
//   2403.06408),
//                          other exponents: Yvinec et al. 2308.05600
//   kmeansB                a table of 2^B halves
// then `group=N`, `channel` (also `row`) or `tensor`, and `scale=f32|f16|bf16|e8m0`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tsubu {

enum class SimGranularity { kGroup, kChannel, kTensor };
enum class SimScale { kF32, kF16, kBf16, kE8m0, kE4m3 };
enum class SimZero { kNone, kInteger, kHalf };

struct SimFormat {
  std::string family;  // "int", "fp8_e4m3", "nf4", "power", "kmeans" …
  int code_bits = 4;
  std::vector<float> levels;  // ascending; empty: tables
  bool even = false;          // levels are consecutive integers
  double exponent = 1;        // of `power`
  float nearest_divisor = 1;  // absmax / scale of the plain rule
  SimGranularity granularity = SimGranularity::kChannel;
  uint64_t group = 0;  // columns, with kGroup; the last one of a row may be shorter
  SimScale scale = SimScale::kF16;
  SimZero zero = SimZero::kNone;
  bool double_quantized = false;  // scales: 8 bits, a float for each 256 of them and one for the tensor
  bool tensor_scale = false;      // another float for the tensor

  // Throws Error(kUsage) that says what was expected.
  static SimFormat parse(std::string_view spec);
  std::string name() const;  // the spec, every word said

  bool has_tables() const { return levels.empty(); }
  int n_levels() const { return has_tables() ? 1 << code_bits : static_cast<int>(levels.size()); }
  // Symmetric formats whose grid is not: the sign of the scale matters.
  bool signed_scale() const {
    return even && zero == SimZero::kNone &&
           (scale == SimScale::kF32 || scale == SimScale::kF16 || scale == SimScale::kBf16);
  }
  // Columns that share a scale (at most n_cols); with kTensor a row is one group that all rows share.
  uint64_t group_columns(uint64_t n_cols) const {
    return granularity == SimGranularity::kGroup && group < n_cols ? group : n_cols;
  }
  uint64_t groups_per_row(uint64_t n_cols) const {
    return (n_cols + group_columns(n_cols) - 1) / group_columns(n_cols);
  }
  uint64_t n_groups(uint64_t n_rows, uint64_t n_cols) const {
    return granularity == SimGranularity::kTensor ? 1 : n_rows * groups_per_row(n_cols);
  }
  // Codes, scales, zeros, tables and what the tensor has once.
  uint64_t total_bits(uint64_t n_rows, uint64_t n_cols) const;
  double bits_per_weight(uint64_t n_rows, uint64_t n_cols) const {
    return static_cast<double>(total_bits(n_rows, n_cols)) /
           (static_cast<double>(n_rows) * static_cast<double>(n_cols));
  }
};

inline constexpr uint64_t kDoubleBlock = 256;  // scales that share a float in double quantization

// One spec of every family, for lists and tests.
const std::vector<std::string_view>& sim_format_examples();

}  // namespace tsubu
