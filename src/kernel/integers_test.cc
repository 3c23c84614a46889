// Integer products against 64-bit sums, the roundings against the formats, and the same bits on every ISA.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "codec/number_format.h"
#include "kernel/kernel_test_util.h"

namespace tsubu {
namespace {

using namespace kernel_test;

class Integers : public ::testing::TestWithParam<const Kernels*> {};

std::vector<int8_t> random_bytes(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int8_t> bytes(n);
  for (int8_t& b : bytes) b = static_cast<int8_t>(random());
  return bytes;
}

int64_t product(const int8_t* a, const int8_t* b, size_t n) {
  int64_t sum = 0;
  for (size_t i = 0; i < n; ++i) sum += int64_t{a[i]} * b[i];
  return sum;
}

TEST_P(Integers, ProductsAreExactInEveryTiling) {
  constexpr int32_t kCanary = 0x5a5a5a5a;
  for (size_t n_cols : {1, 15, 16, 31, 32, 33, 63, 64, 65, 130, 259}) {
    const size_t ldw = n_cols + 3, ldx = n_cols + 5, max_rows = 70, max_tokens = 14, ldc = max_rows + 1;
    const std::vector<int8_t> w = random_bytes(max_rows * ldw, 1), x = random_bytes(max_tokens * ldx, 2);
    for (size_t n_rows : {1, 2, 3, 4, 5, 8, 9, 19, 63, 64, 65, 70}) {
      for (size_t n_tokens = 1; n_tokens <= max_tokens; ++n_tokens) {
        std::vector<int32_t> c(n_tokens * ldc, kCanary);
        GetParam()->gemm_i8(w.data(), ldw, x.data(), ldx, c.data(), ldc, n_rows, n_tokens, n_cols);
        for (size_t t = 0; t < n_tokens; ++t)
          for (size_t r = 0; r < ldc; ++r)
            ASSERT_EQ(c[t * ldc + r], r < n_rows ? product(w.data() + r * ldw, x.data() + t * ldx, n_cols) : kCanary)
                << n_rows << "x" << n_tokens << "x" << n_cols << " at " << t << "," << r;
      }
    }
  }
}

// Every pair of bytes, at every place of a step: nothing saturates and no sign is lost.
TEST_P(Integers, EveryPairOfBytes) {
  for (int a = -128; a < 128; ++a) {
    std::vector<int8_t> w(256), x(256);
    for (int i = 0; i < 256; ++i) {
      w[static_cast<size_t>(i)] = static_cast<int8_t>(a);
      x[static_cast<size_t>(i)] = static_cast<int8_t>(i - 128);
    }
    for (size_t n : {1, 2, 3, 63, 64, 100, 255, 256}) {
      int32_t c;
      GetParam()->gemm_i8(w.data(), n, x.data(), n, &c, 1, 1, 1, n);
      ASSERT_EQ(c, product(w.data(), x.data(), n)) << a << " " << n;
    }
  }
}

TEST_P(Integers, TheLongestSumFits) {
  const std::vector<int8_t> w(kMaxIntegerCols, -128), x(kMaxIntegerCols, -128), y(kMaxIntegerCols, 127);
  int32_t c[2];
  GetParam()->gemm_i8(w.data(), 0, x.data(), 0, c, 1, 1, 1, kMaxIntegerCols);
  GetParam()->gemm_i8(w.data(), 0, y.data(), 0, c + 1, 1, 1, 1, kMaxIntegerCols);
  EXPECT_EQ(c[0], product(w.data(), x.data(), kMaxIntegerCols));
  EXPECT_EQ(c[1], product(w.data(), y.data(), kMaxIntegerCols));
  GetParam()->gemm_i8(w.data(), 0, x.data(), 0, c, 1, 1, 1, 0);
  EXPECT_EQ(c[0], 0) << "no columns";
}

TEST_P(Integers, SumsAreScaledInThreeRoundings) {
  for (size_t n : lengths()) {
    std::mt19937 random(3);
    std::vector<int32_t> acc(n);
    for (int32_t& a : acc) a = static_cast<int32_t>(random());
    const Floats scales = random_floats(n, 1, 4), before = random_floats(n, 2, 5);
    Floats y(n, 3), sum(n, 2);
    for (size_t i = 0; i < n; ++i) sum[i] = before[i];
    GetParam()->scale_sums(acc.data(), scales.data(), 0.37f, y.data(), n, false);
    GetParam()->scale_sums(acc.data(), scales.data(), 0.37f, sum.data(), n, true);
    for (size_t i = 0; i < n; ++i) {
      const float scale = scales[i] * 0.37f, value = static_cast<float>(acc[i]);
      EXPECT_TRUE(same_bits(y[i], value * scale)) << i;
      EXPECT_TRUE(same_bits(sum[i], std::fma(value, scale, before[i]))) << i;
    }
    EXPECT_TRUE(y.canaries_alive() && sum.canaries_alive());
  }
}

TEST_P(Integers, LargestMagnitudes) {
  for (size_t n : lengths()) {
    Floats x = random_floats(n, 1, 6);
    float want = 0;
    for (size_t i = 0; i < n; ++i) want = std::max(want, std::abs(x[i]));
    EXPECT_EQ(GetParam()->max_magnitude(x.data(), n), want);
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      for (size_t at : {size_t{0}, n / 2, n - 1}) {
        Floats y = x;
        y[at] = -bad;
        EXPECT_TRUE(std::isnan(GetParam()->max_magnitude(y.data(), n))) << at << " of " << n;
      }
    }
  }
  EXPECT_EQ(GetParam()->max_magnitude(nullptr, 0), 0.0f);
}

TEST_P(Integers, CodesAreTheNearestIntegers) {
  for (size_t n : lengths()) {
    Floats x = random_floats(n, 1, 7, 50.0f);
    x[0] = 2.5f * 0.31f;
    for (const float limit : {127.0f, 7.0f}) {
      std::vector<int8_t> codes(n + 1, 99);
      GetParam()->encode_i8(x.data(), 0.31f, limit, codes.data(), n);
      for (size_t i = 0; i < n; ++i)
        EXPECT_EQ(static_cast<float>(codes[i]), std::clamp(std::nearbyint(x[i] / 0.31f), -limit, limit)) << i;
      EXPECT_EQ(codes[n], 99);
    }
  }
}

// Against NumberFormat::encode: on every value of the format, the middles between them and their neighbors, and beyond.
TEST_P(Integers, RoundingIsTheFormats) {
  for (const NumberFormat& f : number_formats()) {
    std::vector<float> values;
    for (const float v : f.values())
      if (std::isfinite(v)) values.push_back(v);
    std::sort(values.begin(), values.end());
    std::vector<float> x = {1e30f, -1e30f, f.largest() * 1.001f, 1e-30f, -1e-30f, 0.0f, -0.0f};
    for (size_t i = 0; i + 1 < values.size(); ++i) {
      const float middle = values[i] + (values[i + 1] - values[i]) / 2;
      for (const float v :
           {values[i], middle, std::nextafter(middle, values[i]), std::nextafter(middle, values[i + 1])})
        x.push_back(v);
    }
    for (const float scale : {1.0f, 0.25f, 0.3f}) {
      std::vector<float> scaled = x, y(x.size());
      for (float& v : scaled) v *= scale;
      GetParam()->round_to_rule(scaled.data(), scale, f.rule, y.data(), y.size());
      for (size_t i = 0; i < x.size(); ++i)
        ASSERT_TRUE(same_bits(y[i], f.decode(f.encode(scaled[i] / scale)) * scale)) << f.name << " " << x[i];
    }
  }
}

TEST_P(Integers, NoScaleGivesNoNumber) {
  const Floats x = random_floats(20, 1, 8);
  Floats y(20, 1);
  GetParam()->round_to_rule(x.data(), std::numeric_limits<float>::quiet_NaN(), find_number_format("fp8")->rule,
                            y.data(), 20);
  for (size_t i = 0; i < 20; ++i) EXPECT_TRUE(std::isnan(y[i]));
}

std::string isa_name(const ::testing::TestParamInfo<const Kernels*>& info) { return std::string(info.param->isa); }
INSTANTIATE_TEST_SUITE_P(Isa, Integers, ::testing::ValuesIn(runnable_kernels().begin(), runnable_kernels().end()),
                         isa_name);

}  // namespace
}  // namespace tsubu
