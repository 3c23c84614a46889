// What the kernel tests share: random vectors at misaligned addresses, lengths that hit every tail, bitwise comparison.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "kernel/kernels.h"

namespace tsubu::kernel_test {

// Every length up to four steps, and the neighborhood of a block.
inline std::vector<size_t> lengths() {
  std::vector<size_t> r;
  for (size_t n = 1; n <= 67; ++n) r.push_back(n);
  for (size_t n : {255, 256, 257, 1000}) r.push_back(n);
  return r;
}

// n floats that start `offset` floats into a buffer, with canaries around them.
class Floats {
 public:
  Floats(size_t n, size_t offset) : n_(n), offset_(offset), all_(n + offset + 16, kCanary) {}
  float* data() { return all_.data() + offset_; }
  const float* data() const { return all_.data() + offset_; }
  float& operator[](size_t i) { return all_[offset_ + i]; }
  float operator[](size_t i) const { return all_[offset_ + i]; }
  size_t size() const { return n_; }
  bool canaries_alive() const {
    for (size_t i = 0; i < all_.size(); ++i)
      if ((i < offset_ || i >= offset_ + n_) && all_[i] != kCanary) return false;
    return true;
  }

 private:
  static constexpr float kCanary = -12345.678f;
  size_t n_, offset_;
  std::vector<float> all_;
};

inline Floats random_floats(size_t n, size_t offset, uint32_t seed, float scale = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  Floats r(n, offset);
  for (size_t i = 0; i < n; ++i) r[i] = normal(generator);
  return r;
}

// Same bits; any NaN equals any NaN.
inline bool same_bits(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

inline ::testing::AssertionResult all_same(const Floats& a, const Floats& b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (!same_bits(a[i], b[i])) return ::testing::AssertionFailure() << "element " << i << ": " << a[i] << ", " << b[i];
  return ::testing::AssertionSuccess();
}

inline const Kernels& scalar() { return *runnable_kernels().front(); }

// Relative error of n rounded operations: γ_n = n u / (1 - n u), u = 2^-24.
inline double gamma(size_t n) {
  const double nu = static_cast<double>(n) * 0x1p-24;
  return nu / (1.0 - nu);
}

}  // namespace tsubu::kernel_test
