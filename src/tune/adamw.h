// AdamW on one vector of f32 parameters, its two moments in f32 or in 8 bits: blocks of 256, each scaled by its largest
// magnitude, codes on bitsandbytes' dynamic maps (signed for the first moment, unsigned for the second). A second moment
// that is not zero keeps a code that is not: rounded away, its step would be m / ε. Blocks do not see each other: same bytes for
// any number of threads.
// Sources: Loshchilov and Hutter 1711.05101 (AdamW); Dettmers et al. 2110.02861 (8-bit states, the maps).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/threads.h"

namespace tsubu {

struct AdamWOptions {
  float first_decay = 0.9f, second_decay = 0.95f;
  float epsilon = 1e-8f;
  float weight_decay = 0;
  bool states_8bit = true;
  size_t min_8bit = 4096;  // shorter vectors (norms, biases) keep f32 states
};

class AdamW {
 public:
  explicit AdamW(size_t n = 0, const AdamWOptions& options = {});
  // Step number t, from 1: weights -= rate · (m̂ / (√v̂ + ε) + weight_decay · weights).
  void step(std::span<float> weights, std::span<const float> gradient, double rate, uint64_t t, ThreadPool& pool);
  size_t size() const { return n_; }
  uint64_t state_bytes() const { return state_bytes(n_, options_); }
  static uint64_t state_bytes(size_t n, const AdamWOptions& options);
  // For checkpoints: state_bytes() bytes, little-endian: first moments, second moments, then in 8 bits the blocks' scales
  // of the first and of the second. `name` is for the error when the size is not that.
  std::vector<std::byte> save() const;
  void load(std::span<const std::byte> bytes, const std::string& name);

 private:
  bool is_8bit() const { return is_8bit(n_, options_); }
  static bool is_8bit(size_t n, const AdamWOptions& options) { return options.states_8bit && n >= options.min_8bit; }
  AdamWOptions options_;
  size_t n_ = 0;
  std::vector<float> first_, second_;               // f32 states
  std::vector<uint8_t> first_codes_, second_codes_;  // 8-bit states
  std::vector<float> first_scales_, second_scales_;  // of their blocks
};

}  // namespace tsubu
