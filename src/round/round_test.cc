#include "round/round.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/error.h"
#include "codec/grid.h"
#include "codec/lattice.h"
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

// d and the integer scales of a block.
std::vector<int> scales_of(const TypeInfo& type, const std::byte* bytes) {
  std::vector<int> r;
  if (type.grid) {
    GridBlock block = {};
    type.grid->unpack(bytes, block);
    r.push_back(block.d.bits());
    for (int s = 0; s < type.grid->spec.n_sub; ++s) r.push_back(block.scale[s]);
  } else {
    LatticeBlock block = {};
    type.lattice->unpack(bytes, block);
    r.push_back(block.d.bits());
    for (int s = 0; s < type.lattice->n_sub; ++s) r.push_back(block.scale[s]);
  }
  return r;
}

class EveryRounded : public testing::TestWithParam<TypeInfo> {
 protected:
  static constexpr size_t kRows = 37, kCols = 512;  // neither fills the last panel
  EveryRounded()
      : pool(2), curvature(random_gram(kCols, 2 * kCols, 3), kCols, 2 * kCols, 0.01, pool), w(kRows * kCols) {
    std::mt19937 random(4);
    std::normal_distribution<float> normal(0, 0.05f);
    for (float& v : w) v = normal(random);
  }
  std::vector<std::byte> bytes() const {
    return std::vector<std::byte>(kRows * kCols / GetParam().block_len * GetParam().block_bytes);
  }
  double error(const std::vector<std::byte>& encoded) {
    return form_error(w.data(), encoded.data(), kRows, GetParam(), curvature.h(), kCols, pool);
  }
  std::vector<std::byte> rounded(const RoundOptions& options) {
    auto out = bytes();
    round_rows(w.data(), kRows, GetParam(), curvature, options, out.data(), pool);
    return out;
  }
  ThreadPool pool;
  Curvature curvature;
  std::vector<float> w;
};

TEST_P(EveryRounded, EveryRungLowersTheForm) {
  auto search = bytes();
  for (size_t r = 0; r < kRows; ++r)
    GetParam().encode(w.data() + r * kCols, curvature.diagonal().data(), search.data() + r * search.size() / kRows,
                      kCols);
  const double plain = error(search);
  const double feedback = error(rounded({.descent_passes = 0}));
  EXPECT_LT(feedback, 0.8 * plain);
  double last = feedback;
  for (int passes : {1, 2, 4}) {
    const double descended = error(rounded({.descent_passes = passes}));
    EXPECT_LT(descended, last * (1 + 1e-5)) << passes << " passes";
    last = descended;
  }
  EXPECT_LT(last, feedback);

  const double before = error(search);
  refine_rows(w.data(), kRows, GetParam(), curvature, {.descent_passes = 2}, search.data(), pool);
  EXPECT_LT(error(search), before) << "refining an encoding in place";
}

TEST_P(EveryRounded, CodesAloneLeaveTheScales) {
  auto before = rounded({.descent_passes = 0}), after = before;
  refine_rows(w.data(), kRows, GetParam(), curvature, {.descent_passes = 2, .codes_only = true}, after.data(), pool);
  EXPECT_LE(error(after), error(before) * (1 + 1e-6));
  const size_t n_blocks = before.size() / GetParam().block_bytes;
  for (size_t i = 0; i < n_blocks; ++i)
    ASSERT_EQ(scales_of(GetParam(), before.data() + i * GetParam().block_bytes),
              scales_of(GetParam(), after.data() + i * GetParam().block_bytes));
}

TEST_P(EveryRounded, ThreadsAndCutsChangeNothing) {
  const RoundOptions options = {.descent_passes = 2};
  const auto whole = rounded(options);
  ThreadPool one(1);
  auto out = bytes();
  const size_t row_bytes = out.size() / kRows, cut = 19;
  round_rows(w.data(), cut, GetParam(), curvature, options, out.data(), one);
  round_rows(w.data() + cut * kCols, kRows - cut, GetParam(), curvature, options, out.data() + cut * row_bytes, one);
  EXPECT_EQ(whole, out);
}

TEST_P(EveryRounded, ZerosStayZeros) {
  std::fill(w.begin(), w.end(), 0.0f);
  const auto out = rounded({.descent_passes = 1});
  std::vector<float> decoded(kRows * kCols);
  kernels().decode[GetParam().index](out.data(), decoded.data(), decoded.size());
  for (float v : decoded) ASSERT_EQ(v, 0.0f);
}

INSTANTIATE_TEST_SUITE_P(Types, EveryRounded, testing::ValuesIn(rounded_types()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Round, RefusesTypesWithoutAGrid) {
  ThreadPool pool(1);
  const Curvature curvature(random_gram(256, 300, 1), 256, 300, 0.01, pool);
  std::vector<float> w(256);
  std::vector<std::byte> out(512);
  EXPECT_THROW(round_rows(w.data(), 1, type_named("F16"), curvature, {}, out.data(), pool), Error);
}

}  // namespace
}  // namespace tsubu
