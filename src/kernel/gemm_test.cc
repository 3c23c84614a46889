// Dot products: same bits on every ISA, in every tiling, and within the bound of any summation order.
#include <gtest/gtest.h>

#include "kernel/kernel_test_util.h"

namespace tsubu {
namespace {

using namespace kernel_test;

class Gemm : public ::testing::TestWithParam<const Kernels*> {};

TEST_P(Gemm, DotHasScalarBitsAndTheErrorBound) {
  const Kernels& k = *GetParam();
  for (size_t n : lengths()) {
    for (size_t offset : {0, 1, 3}) {
      const Floats a = random_floats(n, offset, 1), b = random_floats(n, offset + 1, 2);
      const float got = k.dot(a.data(), b.data(), n);
      EXPECT_TRUE(same_bits(got, scalar().dot(a.data(), b.data(), n))) << n;
      double exact = 0, magnitude = 0;
      for (size_t i = 0; i < n; ++i) {
        exact += static_cast<double>(a[i]) * b[i];
        magnitude += std::abs(static_cast<double>(a[i]) * b[i]);
      }
      // One rounding for each fma of a lane's chain, four for the tree.
      EXPECT_LE(std::abs(got - exact), gamma((n + 15) / 16 + 4) * magnitude) << n;
    }
  }
}

TEST_P(Gemm, DotOfNothingIsZero) { EXPECT_EQ(GetParam()->dot(nullptr, nullptr, 0), 0.0f); }

TEST_P(Gemm, EveryElementIsTheDotProductWhateverTheTiling) {
  const Kernels& k = *GetParam();
  const size_t max_rows = 19, max_tokens = 14;
  for (size_t n_cols : {1, 15, 16, 33, 64, 100}) {
    const size_t ldw = n_cols + 3, ldx = n_cols + 5, ldc = max_rows + 2;
    const Floats w = random_floats(max_rows * ldw, 1, 3), x = random_floats(max_tokens * ldx, 2, 4);
    for (size_t n_rows = 1; n_rows <= max_rows; ++n_rows) {
      for (size_t n_tokens = 1; n_tokens <= max_tokens; ++n_tokens) {
        Floats c((n_tokens - 1) * ldc + n_rows, 3);
        k.gemm_nt(w.data(), ldw, x.data(), ldx, c.data(), ldc, n_rows, n_tokens, n_cols);
        for (size_t t = 0; t < n_tokens; ++t)
          for (size_t r = 0; r < n_rows; ++r)
            ASSERT_TRUE(same_bits(c[t * ldc + r], k.dot(w.data() + r * ldw, x.data() + t * ldx, n_cols)))
                << n_rows << "x" << n_tokens << "x" << n_cols << " at " << t << "," << r;
        ASSERT_TRUE(c.canaries_alive());
      }
    }
  }
}

TEST_P(Gemm, LeavesThePaddingBetweenRowsAlone) {
  const Kernels& k = *GetParam();
  const Floats w = random_floats(5 * 20, 0, 5), x = random_floats(7 * 20, 0, 6);
  std::vector<float> c(7 * 9, 4.5f);
  k.gemm_nt(w.data(), 20, x.data(), 20, c.data(), 9, 5, 7, 20);
  for (size_t t = 0; t < 7; ++t)
    for (size_t r = 5; r < 9; ++r) EXPECT_EQ(c[t * 9 + r], 4.5f);
}

TEST_P(Gemm, LongRowsAreTheScalarDotProducts) {
  const Kernels& k = *GetParam();
  const size_t n_rows = 67, n_tokens = 11;
  for (size_t n_cols : {1023, 1024, 1025, 1040, 1536, 2500}) {
    const Floats w = random_floats(n_rows * n_cols, 1, 7), x = random_floats(n_tokens * n_cols, 1, 8);
    Floats got(n_rows * n_tokens, 2);
    k.gemm_nt(w.data(), n_cols, x.data(), n_cols, got.data(), n_rows, n_rows, n_tokens, n_cols);
    EXPECT_TRUE(got.canaries_alive());
    for (size_t t = 0; t < n_tokens; ++t)
      for (size_t r = 0; r < n_rows; r += 3)
        ASSERT_TRUE(same_bits(got[t * n_rows + r], scalar().dot(w.data() + r * n_cols, x.data() + t * n_cols, n_cols)))
            << n_cols << " columns, token " << t << " row " << r;
  }
}

std::string isa_name(const ::testing::TestParamInfo<const Kernels*>& info) { return std::string(info.param->isa); }
INSTANTIATE_TEST_SUITE_P(Isa, Gemm, ::testing::ValuesIn(runnable_kernels().begin(), runnable_kernels().end()),
                         isa_name);

}  // namespace
}  // namespace tsubu
