// Elementwise kernels, norms, softmax: same bits on every ISA, errors within bounds counted from their operations.
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "kernel/kernel_test_util.h"

namespace tsubu {
namespace {

using namespace kernel_test;

constexpr double kUnit = 0x1p-24;          // half a unit in the last place, relative
constexpr double kExpError = 3.0 * kUnit;  // what exp of vector_math.h promises for normal results: 1.5 ulp

class Elementwise : public ::testing::TestWithParam<const Kernels*> {
 protected:
  const Kernels& k() const { return *GetParam(); }
};

// Runs f(kernels, y) with both tables into equal-sized outputs, compares the bits and returns the result.
template <class Fn>
Floats run(const Kernels& k, size_t n, size_t offset, Fn f) {
  Floats got(n, offset), want(n, offset);
  f(k, got.data());
  f(scalar(), want.data());
  EXPECT_TRUE(all_same(got, want)) << k.isa << " length " << n << " offset " << offset;
  EXPECT_TRUE(got.canaries_alive()) << k.isa << " length " << n;
  return got;
}

TEST_P(Elementwise, AddAndAxpyRoundOncePerOperation) {
  for (size_t n : lengths()) {
    const Floats a = random_floats(n, 1, 1), b = random_floats(n, 2, 2);
    const Floats sum = run(k(), n, 3, [&](const Kernels& t, float* y) { t.add(a.data(), b.data(), y, n); });
    const Floats scaled = run(k(), n, 1, [&](const Kernels& t, float* y) {
      std::copy_n(b.data(), n, y);
      t.axpy(0.7f, a.data(), y, n);
    });
    for (size_t i = 0; i < n; ++i) {
      EXPECT_EQ(sum[i], a[i] + b[i]);
      const float product = 0.7f * a[i];
      EXPECT_EQ(scaled[i], b[i] + product);
    }
  }
}

double silu(double x) { return x / (1 + std::exp(-x)); }
double gelu(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }

TEST_P(Elementwise, SiluMulWithinItsBound) {
  for (size_t n : lengths()) {
    const Floats g = random_floats(n, 1, 3, 5.0f), u = random_floats(n, 0, 4);
    const Floats y = run(k(), n, 2, [&](const Kernels& t, float* p) { t.silu_mul(g.data(), u.data(), p, n); });
    // exp (its share of 1 + e is at most 1), addition, division, multiplication.
    for (size_t i = 0; i < n; ++i)
      EXPECT_NEAR(y[i], silu(g[i]) * u[i], (kExpError + 4 * kUnit) * std::abs(silu(g[i]) * u[i])) << g[i];
  }
}

TEST_P(Elementwise, GeluWithinItsBound) {
  for (size_t n : lengths()) {
    const Floats x = random_floats(n, 1, 5, 2.0f);
    const Floats y = run(k(), n, 2, [&](const Kernels& t, float* p) { t.gelu(x.data(), p, n); });
    for (size_t i = 0; i < n; ++i) {
      // The exponent 2u has five roundings and two rounded constants, which e^2u turns into a relative error of 7 |2u|
      // units; then exp, addition, division.
      const double two_u = 2 * std::sqrt(2 / M_PI) * std::abs(x[i] + 0.044715 * x[i] * x[i] * x[i]);
      EXPECT_NEAR(y[i], gelu(x[i]), (7 * two_u * kUnit + kExpError + 3 * kUnit) * std::abs(gelu(x[i])) + 1e-37) << x[i];
    }
  }
}

TEST_P(Elementwise, GatesReachTheirLimits) {
  const float inf = std::numeric_limits<float>::infinity();
  const Floats one = [] {
    Floats f(4, 0);
    for (size_t i = 0; i < 4; ++i) f[i] = 1.0f;
    return f;
  }();
  Floats x(4, 0);
  x[0] = 200.0f;
  x[1] = -200.0f;
  x[2] = inf;
  x[3] = 0.0f;
  const Floats s = run(k(), 4, 0, [&](const Kernels& t, float* y) { t.silu_mul(x.data(), one.data(), y, 4); });
  EXPECT_EQ(s[0], 200.0f);
  EXPECT_EQ(s[1], 0.0f);
  EXPECT_EQ(s[2], inf);
  EXPECT_EQ(s[3], 0.0f);
  const Floats g = run(k(), 3, 0, [&](const Kernels& t, float* y) { t.gelu(x.data(), y, 3); });
  EXPECT_EQ(g[0], 200.0f);
  EXPECT_EQ(g[1], 0.0f);
  EXPECT_EQ(g[2], inf);
}

TEST_P(Elementwise, RmsNormWithinItsBound) {
  for (size_t n : lengths()) {
    const Floats x = random_floats(n, 1, 6, 3.0f), w = random_floats(n, 3, 7);
    double mean = 0;
    for (size_t i = 0; i < n; ++i) mean += static_cast<double>(x[i]) * x[i] / static_cast<double>(n);
    const double scale = 1 / std::sqrt(mean + static_cast<double>(1e-5f));
    const Floats y = run(k(), n, 2, [&](const Kernels& t, float* p) { t.rms_norm(x.data(), w.data(), p, n, 1e-5f); });
    const Floats plain =
        run(k(), n, 2, [&](const Kernels& t, float* p) { t.rms_norm(x.data(), nullptr, p, n, 1e-5f); });
    // Half the error of the sum of squares (positive terms), of its division and of eps; then root, reciprocal,
    // products.
    const double bound = gamma((n + 15) / 16 + 4 + 2) / 2 + gamma(4);
    for (size_t i = 0; i < n; ++i) {
      EXPECT_NEAR(y[i], x[i] * scale * w[i], bound * std::abs(x[i] * scale * w[i]));
      EXPECT_NEAR(plain[i], x[i] * scale, bound * std::abs(x[i] * scale));
    }
  }
}

TEST_P(Elementwise, LayerNormWithinItsBound) {
  for (size_t n : lengths()) {
    Floats x = random_floats(n, 1, 8, 2.0f);
    for (size_t i = 0; i < n; ++i) x[i] += 5.0f;
    const Floats w = random_floats(n, 3, 9), b = random_floats(n, 0, 10);
    double mean = 0, variance = 0, magnitude = 0;
    for (size_t i = 0; i < n; ++i) mean += static_cast<double>(x[i]) / static_cast<double>(n);
    for (size_t i = 0; i < n; ++i) {
      variance += (x[i] - mean) * (x[i] - mean) / static_cast<double>(n);
      magnitude += std::abs(static_cast<double>(x[i])) / static_cast<double>(n);
    }
    const float eps = 1e-3f;
    const double scale = 1 / std::sqrt(variance + static_cast<double>(eps));
    const Floats y =
        run(k(), n, 2, [&](const Kernels& t, float* p) { t.layer_norm(x.data(), w.data(), b.data(), p, n, eps); });
    // The mean is off by at most mean_error; that shifts every difference, and the variance only in second order.
    const double mean_error = gamma((n + 15) / 16 + 5) * magnitude;
    const double relative = gamma((n + 15) / 16 + 8) / 2 + gamma(6) + scale * scale * mean_error * mean_error;
    for (size_t i = 0; i < n; ++i) {
      const double z = (x[i] - mean) * scale * w[i];
      EXPECT_NEAR(y[i], z + b[i],
                  2 * relative * std::abs(z) + 1.01 * std::abs(w[i]) * scale * mean_error + kUnit * std::abs(z + b[i]));
    }
    run(k(), n, 2, [&](const Kernels& t, float* p) { t.layer_norm(x.data(), nullptr, nullptr, p, n, eps); });
  }
}

// softmax of {0, -x}: exp alone decides the second value. Covers the range of exp densely, with a step that is no round
// number in binary.
TEST_P(Elementwise, ExpIsAccurateOverItsWholeRange) {
  const size_t n = 400000;
  Floats x(n + 1, 1);
  x[0] = 0.0f;  // the maximum
  for (size_t i = 1; i <= n; ++i) x[i] = static_cast<float>(-105.0 * static_cast<double>(i) / static_cast<double>(n));
  double sum = 0;
  for (size_t i = 0; i <= n; ++i) sum += std::exp(static_cast<double>(x[i]));
  const double log_sum = k().log_sum_exp(x.data(), n + 1);
  EXPECT_NEAR(std::exp(log_sum), sum, kExpError * sum);
  std::vector<float> one(2);
  for (size_t i = 1; i <= n; i += 37) {
    one[0] = 0.0f;
    one[1] = x[i];
    k().softmax(one.data(), 2);
    const double want = std::exp(static_cast<double>(x[i])) / (1 + std::exp(static_cast<double>(x[i])));
    // exp, its sum, the reciprocal, the product; below 2^-126 half a unit of 2^-149 for each of the three roundings.
    EXPECT_NEAR(one[1], want, (2 * kExpError + 3 * kUnit) * want + 1.5 * 0x1p-149) << x[i];
  }
}

TEST_P(Elementwise, SoftmaxWithinItsBound) {
  for (size_t n : lengths()) {
    const Floats x = random_floats(n, 1, 11, 4.0f);
    double max = x[0], sum = 0;
    for (size_t i = 0; i < n; ++i) max = std::max(max, static_cast<double>(x[i]));
    for (size_t i = 0; i < n; ++i) sum += std::exp(x[i] - max);
    const Floats y = run(k(), n, 3, [&](const Kernels& t, float* p) {
      std::copy_n(x.data(), n, p);
      t.softmax(p, n);
    });
    for (size_t i = 0; i < n; ++i) {
      const double want = std::exp(x[i] - max) / sum;
      // Rounding x - max turns into a relative error of |x - max| units, in this term and in the sum.
      const double difference = 2 * 30.0 * kUnit;
      EXPECT_NEAR(y[i], want, (difference + 2 * kExpError + gamma((n + 15) / 16 + 4 + 2)) * want);
    }
  }
}

TEST_P(Elementwise, SoftmaxIgnoresMaskedEntries) {
  const float inf = std::numeric_limits<float>::infinity();
  Floats x = random_floats(40, 1, 12);
  Floats masked(80, 0);
  for (size_t i = 0; i < 80; ++i) masked[i] = i < 40 ? x[i] : -inf;
  k().softmax(x.data(), 40);
  k().softmax(masked.data(), 80);
  for (size_t i = 0; i < 80; ++i) EXPECT_TRUE(same_bits(masked[i], i < 40 ? x[i] : 0.0f)) << i;
}

TEST_P(Elementwise, LogSumExpWithinItsBound) {
  for (size_t n : lengths()) {
    const Floats x = random_floats(n, 1, 13, 6.0f);
    double max = x[0], sum = 0;
    for (size_t i = 0; i < n; ++i) max = std::max(max, static_cast<double>(x[i]));
    for (size_t i = 0; i < n; ++i) sum += std::exp(x[i] - max);
    const double got = k().log_sum_exp(x.data(), n);
    EXPECT_EQ(got, scalar().log_sum_exp(x.data(), n)) << n;
    // exp of a difference that was rounded: at most max - x units, and x·e^-x has its maximum at 1.
    EXPECT_NEAR(got, max + std::log(sum), kExpError + static_cast<double>(n) * kUnit / sum);
  }
}

TEST_P(Elementwise, DivergenceWithinItsBound) {
  for (size_t n : lengths()) {
    if (n == 0) continue;
    Floats b = random_floats(n, 1, 21, 6.0f), c = random_floats(n, 3, 22, 6.0f);
    for (size_t i = 0; i < n; ++i) c[i] = b[i] + 0.01f * c[i];
    const double bs = k().log_sum_exp(b.data(), n), cs = k().log_sum_exp(c.data(), n);
    double want = 0, bound = 0;
    for (size_t i = 0; i < n; ++i) {
      const double p = std::exp(static_cast<double>(b[i]) - bs), d = static_cast<double>(b[i]) - c[i] - (bs - cs);
      want += p * d;
      // p's relative error; the difference's: its own rounding and that of the shift
      bound += p * (0x1p-20 * std::abs(d) + 2 * kUnit * (std::abs(static_cast<double>(b[i]) - c[i]) + std::abs(bs - cs)));
    }
    const double got = k().kl_divergence(b.data(), bs, c.data(), cs, n);
    EXPECT_EQ(got, scalar().kl_divergence(b.data(), bs, c.data(), cs, n)) << n;
    EXPECT_NEAR(got, std::max(want, 0.0), bound) << n;
    EXPECT_EQ(k().kl_divergence(b.data(), bs, b.data(), bs, n), 0.0);
  }
  // A token that neither model can say costs nothing.
  const float never = -std::numeric_limits<float>::infinity();
  const std::vector<float> b = {0.0f, never, 1.0f}, c = {1.0f, never, 0.0f};
  const double sum = std::log(1 + std::exp(1.0));
  EXPECT_NEAR(k().kl_divergence(b.data(), sum, c.data(), sum, 3), (std::exp(1.0) - 1) / (1 + std::exp(1.0)), 1e-6);
}

TEST_P(Elementwise, NotANumberSurvives) {
  Floats x = random_floats(20, 0, 14);
  x[7] = std::nanf("");
  EXPECT_TRUE(std::isnan(k().log_sum_exp(x.data(), 20)));
  k().softmax(x.data(), 20);
  EXPECT_TRUE(std::isnan(x[7]));
}

std::string isa_name(const ::testing::TestParamInfo<const Kernels*>& info) { return std::string(info.param->isa); }
INSTANTIATE_TEST_SUITE_P(Isa, Elementwise, ::testing::ValuesIn(runnable_kernels().begin(), runnable_kernels().end()),
                         isa_name);

}  // namespace
}  // namespace tsubu
