#include "round/coupled.h"

#include <gtest/gtest.h>

#include <random>

#include "kernel/kernels.h"
#include "round/random_gram.h"

namespace tsubu {
namespace {

std::vector<TypeInfo> rounded_types() {
  std::vector<TypeInfo> r;
  for (const TypeInfo& type : types())
    if (can_round(type)) r.push_back(type);
  return r;
}

class EveryCoupled : public testing::TestWithParam<TypeInfo> {
 protected:
  static constexpr size_t kRows = 37, kCols = 256;
  EveryCoupled()
      : pool(2),
        curvature(random_gram(kCols, 2 * kCols, 3), kCols, 2 * kCols, 0.01, pool),
        h_out(random_gram(kRows, 3 * kRows, 5)),
        w(kRows * kCols) {
    std::mt19937 random(4);
    std::normal_distribution<float> normal(0, 0.05f);
    for (float& v : w) v = normal(random);
  }
  std::vector<std::byte> start() {
    std::vector<std::byte> out(kRows * kCols / GetParam().block_len * GetParam().block_bytes);
    RoundOptions options;
    options.descent_passes = 1;
    round_rows(w.data(), kRows, GetParam(), curvature, options, out.data(), pool);
    return out;
  }
  std::vector<std::byte> refined(int sweeps, size_t group, ThreadPool& p) {
    auto out = start();
    refine_coupled(w.data(), kRows, GetParam(), curvature, h_out, {sweeps, group}, out.data(), p);
    return out;
  }
  // tr(H_O Δ H Δᵀ) from its definition, in double.
  double form(const std::vector<std::byte>& encoded) {
    std::vector<float> decoded(kRows * kCols);
    kernels().decode[GetParam().index](encoded.data(), decoded.data(), decoded.size());
    std::vector<double> delta(decoded.size()), product(decoded.size());
    for (size_t i = 0; i < delta.size(); ++i) delta[i] = static_cast<double>(w[i]) - static_cast<double>(decoded[i]);
    for (size_t r = 0; r < kRows; ++r)
      for (size_t c = 0; c < kCols; ++c)
        for (size_t k = 0; k < kCols; ++k)
          product[r * kCols + c] += delta[r * kCols + k] * static_cast<double>(curvature.h()[k * kCols + c]);
    double sum = 0;
    for (size_t r = 0; r < kRows; ++r)
      for (size_t s = 0; s < kRows; ++s) {
        double dot = 0;
        for (size_t c = 0; c < kCols; ++c) dot += delta[r * kCols + c] * product[s * kCols + c];
        sum += static_cast<double>(h_out[r * kRows + s]) * dot;
      }
    return sum;
  }

  ThreadPool pool;
  Curvature curvature;
  std::vector<float> h_out, w;
};
INSTANTIATE_TEST_SUITE_P(Types, EveryCoupled, testing::ValuesIn(rounded_types()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(EveryCoupled, LowersTheWholeFormSweepBySweep) {
  for (const size_t group : {size_t{1}, size_t{16}, size_t{100}}) {
    double before = form(start());
    const double begin = before;
    for (int sweeps = 1; sweeps <= 3; ++sweeps) {
      const double after = form(refined(sweeps, group, pool));
      EXPECT_LE(after, before * (1 + 1e-4)) << group;  // f32 products decide near ties
      before = after;
    }
    EXPECT_LT(before, begin) << group;
  }
}

TEST_P(EveryCoupled, ThreadsChangeNothing) {
  ThreadPool one(1), three(3);
  EXPECT_EQ(refined(2, 16, one), refined(2, 16, three));
}

TEST_P(EveryCoupled, ProductIsTheDefinition) {
  const auto encoded = start();
  std::vector<float> delta(kRows * kCols), product(kRows * kCols);
  kernels().decode[GetParam().index](encoded.data(), delta.data(), delta.size());
  for (size_t i = 0; i < delta.size(); ++i) delta[i] = w[i] - delta[i];
  kernels().gemm_nt(curvature.h(), kCols, delta.data(), kCols, product.data(), kCols, kCols, kRows, kCols);
  const double want = form(encoded);
  EXPECT_NEAR(coupled_product(h_out, delta.data(), product.data(), kRows, kCols, pool), want, 1e-4 * want);
}

}  // namespace
}  // namespace tsubu
