// For tests: a Gram matrix of correlated columns, some of them far larger than others.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace tsubu {

inline std::vector<float> random_gram(size_t n, size_t n_tokens, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<double> sum(n * n);
  std::vector<float> x(n);
  for (size_t t = 0; t < n_tokens; ++t) {
    const float common = normal(random);
    for (size_t i = 0; i < n; ++i) x[i] = (normal(random) + common) * (i % 7 == 3 ? 10.0f : 1.0f);
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j) sum[i * n + j] += static_cast<double>(x[i]) * static_cast<double>(x[j]);
  }
  return {sum.begin(), sum.end()};
}

}  // namespace tsubu
