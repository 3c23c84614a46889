// 8-bit activation rounding against its rule in plain arithmetic, and the same bits on every ISA.
#include <gtest/gtest.h>

#include "base/half.h"
#include "kernel/kernel_test_util.h"

namespace tsubu {
namespace {

using namespace kernel_test;

class RoundActivations : public ::testing::TestWithParam<const Kernels*> {};

TEST_P(RoundActivations, Q8_0FollowsItsRule) {
  const size_t n = 32 * 50;
  Floats x = random_floats(n, 1, 21, 2.0f);
  for (size_t i = 64; i < 96; ++i) x[i] = 0.0f;
  for (size_t i = 96; i < 128; ++i) x[i] = x[i] * 1e-9f;  // the scale is a subnormal f16 or zero
  Floats got(n, 2), want(n, 2);
  GetParam()->round_q8_0(x.data(), got.data(), n);
  scalar().round_q8_0(x.data(), want.data(), n);
  EXPECT_TRUE(all_same(got, want));
  EXPECT_TRUE(got.canaries_alive());
  for (size_t b = 0; b < n; b += 32) {
    float amax = 0;
    for (size_t i = b; i < b + 32; ++i) amax = std::max(amax, std::abs(x[i]));
    const float scale = f16_to_f32(f32_to_f16(amax / 127.0f));
    for (size_t i = b; i < b + 32; ++i) {
      const float code = amax == 0 ? 0.0f : std::nearbyint(x[i] * (127.0f / amax));
      EXPECT_EQ(got[i], code * scale) << i;
    }
  }
}

TEST_P(RoundActivations, Q8KFollowsItsRule) {
  const size_t n = 256 * 12;
  Floats x = random_floats(n, 1, 22, 2.0f);
  for (size_t i = 256; i < 512; ++i) x[i] = 0.0f;
  x[512 + 40] = 9.0f;  // a tie of magnitudes: the first one gives the sign
  x[512 + 90] = -9.0f;
  x[768 + 10] = -9.0f;
  x[768 + 11] = 9.0f;
  Floats got(n, 2), want(n, 2);
  GetParam()->round_q8_k(x.data(), got.data(), n);
  scalar().round_q8_k(x.data(), want.data(), n);
  EXPECT_TRUE(all_same(got, want));
  EXPECT_TRUE(got.canaries_alive());
  for (size_t b = 0; b < n; b += 256) {
    float extreme = 0;
    for (size_t i = b; i < b + 256; ++i)
      if (std::abs(x[i]) > std::abs(extreme)) extreme = x[i];
    for (size_t i = b; i < b + 256; ++i) {
      if (extreme == 0) {
        EXPECT_EQ(got[i], 0.0f);
        continue;
      }
      const float inverse = -127.0f / extreme;
      EXPECT_EQ(got[i], std::min(127.0f, std::nearbyint(inverse * x[i])) * (1.0f / inverse)) << i;
    }
  }
}

std::string isa_name(const ::testing::TestParamInfo<const Kernels*>& info) { return std::string(info.param->isa); }
INSTANTIATE_TEST_SUITE_P(Isa, RoundActivations,
                         ::testing::ValuesIn(runnable_kernels().begin(), runnable_kernels().end()), isa_name);

}  // namespace
}  // namespace tsubu
