// A quantization scheme: a number format and a granularity, the set of values that share one scale. Written
// "format:granularity": int8:channel, int4:group=128, fp8_e4m3:token.
//   unit       no scale at all: the value itself is rounded
//   tensor     one scale for a tensor; for activations it is static, fixed by calibration
//   channel    one for each row of a weight (output channel)
//   token      one for each row of activations; in a cache, for each token and head
//   group=N    one for each N consecutive columns of a row (the last group may be shorter)
//   block=N    one for each N × N values of a weight (blocks at the edges are smaller)
// The scale of a set is its largest magnitude divided by the format's largest value, in f32; a set of zeros has scale 0
// and codes 0. Sources: SmoothQuant (2211.10438) for per-token × per-channel INT8, DeepSeek-V3 for FP8 blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "codec/number_format.h"

namespace tsubu {

enum class Granularity { kUnit, kTensor, kChannel, kToken, kGroup, kBlock };
enum class SchemeUse { kWeights, kActivations, kCache };

struct Scheme {
  const NumberFormat* format = nullptr;
  Granularity granularity = Granularity::kUnit;
  uint32_t size = 0;  // N of a group or block

  std::string name() const;
  // The scale of values whose largest magnitude is `amax`: 1 without scales.
  float scale_of(float amax) const { return granularity == Granularity::kUnit ? 1.0f : amax / format->largest(); }
  // Consecutive columns of a row that share a scale: at most n_cols.
  size_t columns_per_scale(size_t n_cols) const;
  // Scales (of 32 bits) of a matrix.
  uint64_t n_scales(uint64_t n_rows, uint64_t n_cols) const;
  // Codes and scales, packed.
  double bits_per_value(uint64_t n_rows, uint64_t n_cols) const;
  bool operator==(const Scheme&) const = default;
};

// The granularity may be left out: channel for weights, token for activations and caches. Throws Error(kUsage) with
// what there is.
Scheme parse_scheme(std::string_view text, SchemeUse use);

struct GranularityInfo {
  std::string_view name;  // as written, "group=N"
  Granularity granularity;
  bool for_weights, for_activations, for_cache;
  std::string_view summary;
};
std::span<const GranularityInfo> granularities();

// Pairs of schemes under the names by which people know them.
struct SchemePreset {
  std::string_view name;
  std::string_view weights, activations;  // as parse_scheme reads them; empty: float
  float outliers;                         // threshold, 0: none
  std::string_view summary;
};
std::span<const SchemePreset> scheme_presets();
// Case-insensitive. Throws Error(kUsage).
const SchemePreset& scheme_preset(std::string_view name);

}  // namespace tsubu
