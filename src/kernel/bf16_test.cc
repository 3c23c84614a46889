// bfloat16 products: within the bound of any order of f32 additions over exact products; roundings to the bit.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/half.h"
#include "kernel/kernel_test_util.h"

namespace tsubu {
namespace {

using namespace kernel_test;

class Bf16 : public ::testing::TestWithParam<const Kernels*> {};

TEST_P(Bf16, ProductsAreWithinTheBoundWhateverTheShape) {
  const Kernels& k = *GetParam();
  constexpr size_t kPanel = 16, kPadding = 16;
  for (size_t n_pairs : {16, 48, 272}) {  // the last: more than one piece of the tiles' depth
    for (size_t n_a : {1, 5, 12, 16, 17, 32, 37, 64}) {
      for (size_t n_panels : {1, 2, 3}) {
        const size_t lda = n_pairs + kPadding, ldc = n_panels * kPanel + 3;
        const Floats a = random_floats(n_a * lda * 2, 0, 1), b = random_floats(n_panels * kPanel * n_pairs * 2, 0, 2);
        std::vector<uint16_t> ra(a.size()), rb(b.size());
        k.round_to_bf16(a.data(), ra.size(), ra.data());
        k.round_to_bf16(b.data(), rb.size(), rb.data());
        std::vector<uint32_t> pa(ra.size() / 2), pb(rb.size() / 2);
        std::memcpy(pa.data(), ra.data(), ra.size() * sizeof(uint16_t));
        std::memcpy(pb.data(), rb.data(), rb.size() * sizeof(uint16_t));
        std::vector<float> c(n_a * ldc, 7.0f);
        k.products_bf16(pa.data(), lda, pb.data(), n_panels, n_pairs, n_a, c.data(), ldc);
        for (size_t i = 0; i < n_a; ++i) {
          for (size_t j = 0; j < n_panels * kPanel; ++j) {
            double exact = 0, magnitude = 0;
            for (size_t p = 0; p < 2 * n_pairs; ++p) {
              const double x = bf16_to_f32(ra[i * lda * 2 + p]);
              const double y = bf16_to_f32(rb[((j / kPanel * n_pairs + p / 2) * kPanel + j % kPanel) * 2 + p % 2]);
              exact += x * y;
              magnitude += std::abs(x * y);
            }
            ASSERT_LE(std::abs(c[i * ldc + j] - exact), gamma(2 * n_pairs) * magnitude)
                << n_a << " rows, " << n_panels << " panels, " << n_pairs << " pairs: " << i << ", " << j;
          }
          for (size_t j = n_panels * kPanel; j < ldc; ++j) ASSERT_EQ(c[i * ldc + j], 7.0f);
        }
      }
    }
  }
}

TEST_P(Bf16, RowsDoNotDependOnTheOthers) {
  const Kernels& k = *GetParam();
  constexpr size_t kPairs = 32, kRows = 45, kPanels = 3;
  std::vector<uint32_t> a(kRows * kPairs), b(kPanels * 16 * kPairs);
  const Floats fa = random_floats(a.size() * 2, 0, 3), fb = random_floats(b.size() * 2, 0, 4);
  k.round_to_bf16(fa.data(), fa.size(), reinterpret_cast<uint16_t*>(a.data()));
  k.round_to_bf16(fb.data(), fb.size(), reinterpret_cast<uint16_t*>(b.data()));
  std::vector<float> all(kRows * kPanels * 16), one(kPanels * 16);
  k.products_bf16(a.data(), kPairs, b.data(), kPanels, kPairs, kRows, all.data(), kPanels * 16);
  for (size_t r = 0; r < kRows; ++r) {
    k.products_bf16(a.data() + r * kPairs, kPairs, b.data(), kPanels, kPairs, 1, one.data(), kPanels * 16);
    for (size_t j = 0; j < one.size(); ++j) ASSERT_TRUE(same_bits(one[j], all[r * one.size() + j])) << r << ", " << j;
  }
}

TEST_P(Bf16, RoundsToNearestEven) {
  const Kernels& k = *GetParam();
  std::vector<float> x = {0.0f, -0.0f, 1.0f, 1.00390625f, 1.01171875f, -3.3895314e38f, INFINITY, -INFINITY, 1e-40f};
  const Floats more = random_floats(100, 0, 5);
  x.insert(x.end(), more.data(), more.data() + more.size());
  std::vector<uint16_t> y(x.size());
  k.round_to_bf16(x.data(), x.size(), y.data());
  for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(y[i], f32_to_bf16(x[i])) << x[i];
  const float nan = NAN;
  uint16_t bits = 0;
  k.round_to_bf16(&nan, 1, &bits);
  EXPECT_TRUE(std::isnan(bf16_to_f32(bits)));
  std::vector<uint32_t> pairs(x.size());
  k.pair_rows_bf16(x.data(), x.data(), x.size(), pairs.data());
  for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(pairs[i], y[i] | static_cast<uint32_t>(y[i]) << 16);
}

TEST_P(Bf16, TransposesSquares) {
  std::vector<uint32_t> in(16 * 20), out(16 * 18, 1);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint32_t>(i);
  GetParam()->transpose_pairs(in.data(), 20, out.data(), 18);
  for (size_t i = 0; i < 16; ++i)
    for (size_t j = 0; j < 16; ++j) ASSERT_EQ(out[j * 18 + i], in[i * 20 + j]);
}

std::string isa_name(const ::testing::TestParamInfo<const Kernels*>& info) { return std::string(info.param->isa); }
INSTANTIATE_TEST_SUITE_P(Isa, Bf16, ::testing::ValuesIn(runnable_kernels().begin(), runnable_kernels().end()),
                         isa_name);

}  // namespace
}  // namespace tsubu
