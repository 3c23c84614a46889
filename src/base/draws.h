// Random numbers of one row: a counter-based generator (splitmix64, Steele et al. 2014), so that a row's draws do not
// depend on who computed the rows before it.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

namespace tsubu {

inline uint64_t mix_bits(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

class RowDraws {
 public:
  RowDraws(uint64_t seed, uint64_t key, uint64_t row) : state_(mix_bits(mix_bits(seed) ^ key) + mix_bits(row * kStep + 1)) {}

  double uniform() {  // in [0, 1)
    state_ += kStep;
    return static_cast<double>(mix_bits(state_) >> 11) * 0x1p-53;
  }
  double sign() { return uniform() < 0.5 ? -1.0 : 1.0; }
  double normal() {  // Box and Muller's pairs
    if (has_second_) {
      has_second_ = false;
      return second_;
    }
    const double radius = std::sqrt(-2 * std::log(1 - uniform())), angle = 2 * std::numbers::pi * uniform();
    second_ = radius * std::sin(angle);
    has_second_ = true;
    return radius * std::cos(angle);
  }

 private:
  static constexpr uint64_t kStep = 0x9e3779b97f4a7c15u;
  uint64_t state_;
  double second_ = 0;
  bool has_second_ = false;
};

}  // namespace tsubu
