// What every type that can be encoded keeps: its error bound, finite values from finite ones, the same codes when
// values or importance are all multiplied by a power of two, and no more error than the field's reference quantizers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "codec/type_info.h"

namespace tsubu {
namespace {

std::vector<TypeInfo> encodable() {
  std::vector<TypeInfo> r;
  for (const TypeInfo& type : types())
    if (type.encode) r.push_back(type);
  return r;
}

using Bytes = std::vector<std::byte>;

Bytes encode(const TypeInfo& type, const std::vector<float>& x, const float* importance = nullptr) {
  Bytes blocks(x.size() / type.block_len * type.block_bytes);
  type.encode(x.data(), importance, blocks.data(), x.size());
  return blocks;
}

std::vector<float> decode(const TypeInfo& type, const Bytes& blocks) {
  std::vector<float> y(blocks.size() / type.block_bytes * type.block_len);
  type.decode(blocks.data(), y.data(), y.size());
  return y;
}

std::vector<float> round_trip(const TypeInfo& type, const std::vector<float>& x, const float* importance = nullptr) {
  return decode(type, encode(type, x, importance));
}

// n values: mostly bell-shaped, some heavy-tailed, one-sided, sparse or constant runs; none so small that f16 loses
// digits.
std::vector<float> random_row(size_t n, std::mt19937& generator) {
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (size_t start = 0; start < n; start += 32) {
    const uint32_t kind = generator() % 6;
    const float level = normal(generator);
    for (size_t i = start; i < std::min(n, start + 32); ++i) {
      const float v = normal(generator);
      x[i] = kind == 0 ? v * v * v : kind == 1 ? std::abs(v) : kind == 2 ? -std::abs(v) : kind == 3 ? level : v;
      if ((kind == 4 && generator() % 4) || std::abs(x[i]) < 0x1p-14f) x[i] = 0;
    }
  }
  return x;
}

std::vector<float> random_importance(size_t n, std::mt19937& generator) {
  std::normal_distribution<float> normal;
  std::vector<float> q(n);
  for (float& v : q) v = generator() % 8 ? std::exp(2 * normal(generator)) : 0.0f;
  return q;
}

double weighted_error(const std::vector<float>& x, const std::vector<float>& y, const float* importance) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double error = double{y[i]} - x[i];
    sum += (importance ? importance[i] : 1.0) * error * error;
  }
  return sum;
}

// The largest |y - x| / max|x| over blocks, where the block is not all zero.
double worst_relative_error(const TypeInfo& type, const std::vector<float>& x, const std::vector<float>& y) {
  double worst = 0;
  for (size_t start = 0; start < x.size(); start += type.block_len) {
    double error = 0;
    double largest = 0;
    for (size_t i = start; i < start + type.block_len; ++i) {
      error = std::max(error, std::abs(double{y[i]} - x[i]));
      largest = std::max(largest, std::abs(double{x[i]}));
    }
    if (largest > 0) worst = std::max(worst, error / largest);
  }
  return worst;
}

class Encode : public testing::TestWithParam<TypeInfo> {};

TEST_P(Encode, KeepsItsErrorBound) {
  const TypeInfo& type = GetParam();
  std::mt19937 generator(7);
  for (int repeat = 0; repeat < 20; ++repeat) {
    const std::vector<float> x = random_row(2048, generator);
    const std::vector<float> q = random_importance(2048, generator);
    // The last unit is the comparison's own rounding.
    const double bound = type.max_relative_error * (1 + 1e-6);
    EXPECT_LE(worst_relative_error(type, x, round_trip(type, x)), bound);
    EXPECT_LE(worst_relative_error(type, x, round_trip(type, x, q.data())), bound);
  }
}

TEST_P(Encode, ZerosStayZero) {
  const TypeInfo& type = GetParam();
  const std::vector<float> zeros(512, 0.0f);
  EXPECT_EQ(round_trip(type, zeros), zeros);
  const std::vector<float> q(512, 1.0f);
  EXPECT_EQ(round_trip(type, zeros, q.data()), zeros);
}

TEST_P(Encode, FiniteValuesOfAnySizeStayFinite) {
  const TypeInfo& type = GetParam();
  std::mt19937 generator(8);
  for (const float size :
       {1e-45f, 1e-38f, 1e-20f, 1e-12f, 1e-8f, 1e-7f, 1e-5f, 1e4f, 1e6f, 1e9f, 1e15f, 1e25f, 1e37f}) {
    std::vector<float> x = random_row(512, generator);
    for (float& v : x) v = std::clamp(v, -10.0f, 10.0f) * size;
    x[100] = 0x1.fffffep127f;
    x[101] = -0x1.fffffep127f;
    for (int with_extremes = 0; with_extremes < 2; ++with_extremes) {
      if (!with_extremes) x[100] = x[101] = 0;
      const std::vector<float> q = random_importance(512, generator);
      for (const float* importance : {static_cast<const float*>(nullptr), q.data()}) {
        const std::vector<float> y = round_trip(type, x, importance);
        for (size_t i = 0; i < y.size(); ++i)
          ASSERT_TRUE(std::isfinite(y[i])) << size << " at " << i << " from " << x[i];
      }
    }
  }
}

// Blocks are searched side by side; what stands beside one must not change it. Importance is left out: its level is the row's.
TEST_P(Encode, ABlockDoesNotDependOnItsNeighbors) {
  const TypeInfo& type = GetParam();
  std::mt19937 generator(13);
  const std::vector<float> x = random_row(19 * size_t{type.block_len}, generator);  // more than a panel, and an odd number
  Bytes alone;
  for (size_t i = 0; i < x.size(); i += type.block_len) {
    const Bytes block = encode(type, {x.begin() + static_cast<ptrdiff_t>(i), x.begin() + static_cast<ptrdiff_t>(i + type.block_len)});
    alone.insert(alone.end(), block.begin(), block.end());
  }
  EXPECT_EQ(encode(type, x), alone);
}

TEST_P(Encode, UselessImportanceStillKeepsTheBound) {
  const TypeInfo& type = GetParam();
  std::mt19937 generator(9);
  const std::vector<float> x = random_row(512, generator);
  for (const float value : {0.0f, 1e-44f, 3e38f}) {
    const std::vector<float> q(512, value);
    const std::vector<float> y = round_trip(type, x, q.data());
    EXPECT_LE(worst_relative_error(type, x, y), type.max_relative_error * (1 + 1e-6)) << value;
  }
}

// Every step scales exactly, except where an f16 scale is rounded: its exponent must stay in the normal range.
TEST_P(Encode, PowersOfTwoChangeOnlyScales) {
  const TypeInfo& type = GetParam();
  std::mt19937 generator(10);
  const std::vector<float> x = random_row(1024, generator);
  const std::vector<float> q = random_importance(1024, generator);
  std::vector<float> larger = x;
  for (float& v : larger) v *= 16;
  std::vector<float> more_important = q;
  for (float& v : more_important) v *= 1024;
  EXPECT_EQ(encode(type, x, q.data()), encode(type, x, more_important.data()));
  if (!type.is_quantized || type.name == "NVFP4") return;  // NVFP4's FP8 scales have no normal range wide enough
  std::vector<float> y = round_trip(type, x);
  for (float& v : y) v *= 16;
  EXPECT_EQ(round_trip(type, larger), y);
}

TEST_P(Encode, ImportanceLowersTheErrorThatCounts) {
  const TypeInfo& type = GetParam();
  if (!type.is_quantized || type.name == "Q8_0") GTEST_SKIP() << type.name << " has no use for importance";
  std::mt19937 generator(11);
  std::normal_distribution<float> normal;
  std::vector<float> x(16384);
  for (float& v : x) v = normal(generator);
  std::vector<float> q(x.size());
  for (float& v : q) v = std::exp(normal(generator));
  EXPECT_LT(weighted_error(x, round_trip(type, x, q.data()), q.data()),
            weighted_error(x, round_trip(type, x), q.data()));
}

// Relative root mean square errors of llama.cpp's reference quantizers (b9749, no importance; ones for IQ1_S, IQ2_XXS
// and IQ2_XS, which demand some) on bell_shaped_sample().
struct ReferenceError {
  std::string_view type;
  double error;
};
constexpr ReferenceError kReferenceErrors[] = {
    {"Q8_0", 0.005058},   {"Q4_0", 0.081038},   {"Q4_1", 0.075005},    {"Q5_0", 0.040224},  {"Q5_1", 0.036108},
    {"Q2_K", 0.286392},   {"Q3_K", 0.144991},   {"Q4_K", 0.068461},    {"Q5_K", 0.034335},  {"Q6_K", 0.016910},
    {"IQ4_NL", 0.073301}, {"IQ4_XS", 0.073834}, {"IQ1_S", 0.470622},   {"IQ1_M", 0.568948}, {"IQ2_XXS", 0.339052},
    {"IQ2_XS", 0.295955}, {"IQ2_S", 0.256718},  {"IQ3_XXS", 0.209127}, {"IQ3_S", 0.160044}, {"TQ1_0", 0.763003},
    {"TQ2_0", 0.763003},  {"MXFP4", 0.112383},  {"NVFP4", 0.095485},   {"Q1_0", 0.585948},  {"Q2_0", 0.687611},
};

// 64 rows of 256 sums of four uniform numbers.
std::vector<float> bell_shaped_sample() {
  std::vector<float> x(64 * 256);
  uint64_t state = 1;
  for (float& v : x) {
    int64_t sum = -(int64_t{1} << 25);
    for (int k = 0; k < 4; ++k) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      sum += static_cast<int64_t>(state >> 40);
    }
    v = static_cast<float>(sum) * 0x1p-24f;
  }
  return x;
}

TEST(EncodeReference, LosesNoMoreThanTheReferenceQuantizers) {
  const std::vector<float> x = bell_shaped_sample();
  const double energy = weighted_error(x, std::vector<float>(x.size(), 0.0f), nullptr);
  for (const ReferenceError& reference : kReferenceErrors) {
    const double error = std::sqrt(weighted_error(x, round_trip(type_named(reference.type), x), nullptr) / energy);
    EXPECT_LE(error, reference.error + 5e-7) << reference.type;  // the constant's last digit
  }
}

// A model that was trained in so few values keeps them.
TEST(EncodeReference, TernaryAndSignOnlyBlocksComeBackExactly) {
  std::mt19937 generator(12);
  const std::vector<float> q = random_importance(512, generator);
  for (const std::string_view name : {"TQ1_0", "TQ2_0", "Q2_0", "Q1_0"}) {
    std::vector<float> x(512);
    for (float& v : x) {
      const uint32_t pick = name == "Q1_0" ? generator() % 2 * 2 : generator() % 3;
      v = (static_cast<float>(pick) - 1) * 0x1.3p-5f;
    }
    EXPECT_EQ(round_trip(type_named(name), x), x) << name;
    EXPECT_EQ(round_trip(type_named(name), x, q.data()), x) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Encode, testing::ValuesIn(encodable()),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace tsubu
