// Sums of products of columns: the same bits on every ISA, and within the bound of an fma chain.
#include <gtest/gtest.h>

#include "kernel/kernel_test_util.h"

namespace tsubu {
namespace {

using namespace kernel_test;

class Gram : public ::testing::TestWithParam<const Kernels*> {};

TEST_P(Gram, AddsChainsOverTokensToDoubles) {
  const Kernels& k = *GetParam();
  for (size_t n_x : {1, 2, 3}) {
    for (size_t n_y : {1, 2, 3, 4, 7}) {
      for (size_t n_tokens : {0, 1, 2, 17, 100}) {
        const Floats x = random_floats(n_x * n_tokens * 16, 1, 1), y = random_floats(n_y * n_tokens * 16, 3, 2);
        const size_t ldg = n_y * 16 + 5, rows = n_x * 16;
        std::vector<double> got(rows * ldg, 0.25), expected = got;
        k.gram(x.data(), n_x, y.data(), n_y, n_tokens, got.data(), ldg);
        scalar().gram(x.data(), n_x, y.data(), n_y, n_tokens, expected.data(), ldg);
        EXPECT_EQ(got, expected) << n_x << " " << n_y << " " << n_tokens;
        for (size_t i = 0; i < rows; ++i) {
          for (size_t j = 0; j < ldg; ++j) {
            if (j >= n_y * 16) {
              ASSERT_EQ(got[i * ldg + j], 0.25) << "padding between rows";
              continue;
            }
            double exact = 0, magnitude = 0;
            for (size_t t = 0; t < n_tokens; ++t) {
              const double p = static_cast<double>(x[(i / 16 * n_tokens + t) * 16 + i % 16]) *
                               y[(j / 16 * n_tokens + t) * 16 + j % 16];
              exact += p;
              magnitude += std::abs(p);
            }
            ASSERT_LE(std::abs(got[i * ldg + j] - 0.25 - exact), gamma(n_tokens) * magnitude + 1e-15)
                << i << "," << j << " of " << n_tokens << " tokens";
          }
        }
      }
    }
  }
}

TEST_P(Gram, MomentsOfColumns) {
  const Kernels& k = *GetParam();
  for (size_t n_cols : {1, 15, 16, 17, 64, 100}) {
    for (size_t n_tokens : {0, 1, 33}) {
      const size_t ldx = n_cols + 3;
      const Floats x = random_floats(n_tokens * ldx + 1, 1, 4);
      std::vector<double> sum(n_cols, 1.0), squares(n_cols, 2.0), sum2 = sum, squares2 = squares;
      std::vector<float> max_abs(n_cols, 0.5f), max2 = max_abs;
      k.column_moments(x.data(), ldx, n_tokens, n_cols, sum.data(), squares.data(), max_abs.data());
      scalar().column_moments(x.data(), ldx, n_tokens, n_cols, sum2.data(), squares2.data(), max2.data());
      EXPECT_EQ(sum, sum2);
      EXPECT_EQ(squares, squares2);
      EXPECT_EQ(max_abs, max2);
      for (size_t c = 0; c < n_cols; ++c) {
        double s = 1, q = 2, magnitude = 0;
        float m = 0.5f;
        for (size_t t = 0; t < n_tokens; ++t) {
          const double v = x[t * ldx + c];
          s += v;
          q += v * v;
          magnitude += std::abs(v);
          m = std::max(m, std::abs(x[t * ldx + c]));
        }
        EXPECT_NEAR(sum[c], s, gamma(n_tokens) * magnitude + 1e-15);
        EXPECT_NEAR(squares[c], q, gamma(n_tokens) * q);
        EXPECT_EQ(max_abs[c], m);
      }
    }
  }
}

std::string isa_name(const ::testing::TestParamInfo<const Kernels*>& info) { return std::string(info.param->isa); }
INSTANTIATE_TEST_SUITE_P(Isa, Gram, ::testing::ValuesIn(runnable_kernels().begin(), runnable_kernels().end()),
                         isa_name);

}  // namespace
}  // namespace tsubu
