// Numbers of bitsandbytes: its two 4-bit tables, and its double quantization of scales: the mean subtracted, blocks of
// 256 by their largest magnitude onto an 8-bit "dynamic" map.
// Sources: Dettmers et al. 2305.14314 (NF4) and 2110.02861 (the map); bitsandbytes (functional.py).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tsubu {

// Quantiles of the normal distribution, ascending: code 0 is -1, code 7 is 0.
inline constexpr float kNf4Map[16] = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f,
    -0.18477343022823334f, -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f,
    0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};
// Codes 0 … 7; 8 … 15 are their negatives. Not the order of E2M1.
inline constexpr float kFp4Magnitudes[8] = {0.0f, 0.0625f / 12, 8.0f / 12, 12.0f / 12, 4.0f / 12, 6.0f / 12, 2.0f / 12, 3.0f / 12};

inline constexpr uint64_t kNestedBlock = 256;

const std::vector<float>& dynamic_map();  // 256 ascending values from -0.993 to 1

struct DoubleQuantized {
  float offset = 0;
  std::vector<float> absmax;   // of each block of 256 scales
  std::vector<uint8_t> codes;  // of each scale
  float scale(size_t i) const { return dynamic_map()[codes[i]] * absmax[i / kNestedBlock] + offset; }
};
DoubleQuantized double_quantize_scales(std::span<const float> scales);

}  // namespace tsubu
