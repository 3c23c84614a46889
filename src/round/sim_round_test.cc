#include "round/sim_round.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "base/error.h"
#include "round/methods.h"
#include "round/random_gram.h"
#include "round/sim_scales.h"

namespace tsubu {
namespace {

constexpr size_t kRows = 70, kCols = 320;  // neither whole items nor whole spans

class EveryFormat : public testing::TestWithParam<std::string_view> {
 protected:
  EveryFormat() : pool(2), curvature(random_gram(kCols, 2 * kCols, 3), kCols, 2 * kCols, 0.01, pool), w(kRows * kCols) {
    std::mt19937 random(4);
    std::normal_distribution<float> normal(0, 0.05f);
    for (float& v : w) v = normal(random);
    w[5] = 0.9f;
  }
  std::vector<float> rounded(SimStart start, int passes, ThreadPool& with) {
    std::vector<float> out(w.size());
    sim_round(w.data(), kRows, kCols, format, {start, passes}, curvature.diagonal(), &curvature, out.data(), with);
    return out;
  }
  double form(SimStart start, int passes) {
    return sim_form_error(w.data(), rounded(start, passes, pool).data(), kRows, curvature, pool);
  }
  ThreadPool pool;
  Curvature curvature;
  std::vector<float> w;
  const SimFormat format = SimFormat::parse(GetParam());
};

TEST_P(EveryFormat, FeedbackBeatsNearestAndDescentIsMonotone) {
  const double nearest = form(SimStart::kNearest, 0);
  for (const SimStart start : {SimStart::kGptqPlain, SimStart::kGptq}) EXPECT_LT(form(start, 0), 0.95 * nearest);
  for (const SimStart start : {SimStart::kNearest, SimStart::kGptq}) {
    double last = form(start, 0);
    for (int passes = 1; passes <= 3; ++passes) {
      const double now = form(start, passes);
      EXPECT_LE(now, last * (1 + 1e-5)) << passes;
      last = now;
    }
    EXPECT_LT(last, form(start, 0));
  }
}

TEST_P(EveryFormat, ThreadsChangeNothing) {
  ThreadPool one(1), three(3);
  for (const SimStart start : {SimStart::kNearest, SimStart::kSearch, SimStart::kGptq})
    EXPECT_EQ(rounded(start, 2, one), rounded(start, 2, three));
}

// No more values in a group than its codes can tell apart.
TEST_P(EveryFormat, ValuesAreOnAGrid) {
  if (format.granularity == SimGranularity::kTensor) return;
  for (const SimStart start : {SimStart::kNearest, SimStart::kGptq}) {
    const auto out = rounded(start, 2, pool);
    const size_t group = format.group_columns(kCols);
    for (size_t r = 0; r < kRows; ++r)
      for (size_t c = 0; c < kCols; c += group) {
        const std::set<float> values(out.begin() + static_cast<ptrdiff_t>(r * kCols + c),
                                     out.begin() + static_cast<ptrdiff_t>(r * kCols + std::min(kCols, c + group)));
        ASSERT_LE(values.size(), static_cast<size_t>(format.n_levels()));
      }
  }
}

TEST_P(EveryFormat, SearchAndHqqImproveTheirOwnErrors) {
  if (format.has_tables()) return;
  for (size_t r = 0; r < 8; ++r) {
    const std::span<const float> x(w.data() + r * kCols, 64);
    const float tensor_scale = tensor_scale_for(format, 0.9f);
    const SimGroup plain = fit_nearest(format, x, tensor_scale);
    EXPECT_LE(fit_error(format, fit_search(format, x, {}, tensor_scale), x, {}), fit_error(format, plain, x, {}));
    EXPECT_LE(lp_error(format, fit_hqq(format, x, tensor_scale), x), lp_error(format, plain, x));
  }
}

TEST_P(EveryFormat, ZeroStaysZero) {
  std::fill(w.begin(), w.end(), 0.0f);
  for (const SimStart start : {SimStart::kNearest, SimStart::kSearch, SimStart::kGptq})
    for (float v : rounded(start, 1, pool)) ASSERT_EQ(v, 0.0f);
}

INSTANTIATE_TEST_SUITE_P(Formats, EveryFormat, testing::ValuesIn(sim_format_examples()), [](const auto& info) {
  std::string name(info.param);
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
});

TEST(SimScales, HqqLowersTheNorm) {
  const SimFormat format = SimFormat::parse("int4:group=64:asym=f16");
  std::mt19937 random(5);
  std::student_t_distribution<float> heavy(3);
  double plain = 0, hqq = 0;
  for (int i = 0; i < 100; ++i) {
    std::vector<float> x(64);
    for (float& v : x) v = 0.02f * heavy(random);
    plain += lp_error(format, fit_nearest(format, x, 1), x);
    hqq += lp_error(format, fit_hqq(format, x, 1), x);
  }
  EXPECT_LT(hqq, 0.995 * plain);
}

TEST(SimScales, PlainRules) {
  const std::vector<float> x = {-0.75f, 0.25f, 0.5f, 0.0f};
  EXPECT_EQ(fit_nearest(SimFormat::parse("int4:channel:scale=f32"), x, 1).scale, 0.75f / 7.5f);
  EXPECT_EQ(fit_nearest(SimFormat::parse("mxfp4"), x, 1).scale, 0.125f);  // floor(log2 0.75) - 2
  EXPECT_EQ(fit_nearest(SimFormat::parse("nf4"), x, 1).scale, 0.75f);
  const SimGroup asym = fit_nearest(SimFormat::parse("int2:channel:asym:scale=f32"), x, 1);
  EXPECT_EQ(asym.scale, 1.25f / 3);
  EXPECT_EQ(asym.zero, 2);
}

TEST(SimScales, TablesFindTheClusters) {
  std::vector<float> x;
  for (int i = 0; i < 40; ++i)
    for (float center : {-1.0f, -0.25f, 0.5f, 2.0f}) x.push_back(center);
  EXPECT_EQ(fit_table(SimFormat::parse("kmeans2:row"), x, {}), (std::vector<float>{-1.0f, -0.25f, 0.5f, 2.0f}));
}

TEST(SimScales, DoubleQuantization) {
  EXPECT_EQ(dynamic_map().size(), 256u);
  EXPECT_EQ(dynamic_map().back(), 1.0f);
  EXPECT_FLOAT_EQ(dynamic_map().front(), -0.99296875f);
  std::vector<SimGroup> groups(600), before;
  for (size_t i = 0; i < groups.size(); ++i) groups[i].scale = 0.1f + 0.001f * static_cast<float>(i * 37 % 100);
  before = groups;
  double_quantize(groups);
  std::set<float> values;
  for (size_t i = 0; i < groups.size(); ++i) {
    EXPECT_NEAR(groups[i].scale, before[i].scale, 0.001);
    if (i < kDoubleBlock) values.insert(groups[i].scale);
  }
  EXPECT_LE(values.size(), 256u);
}

TEST(SimMethods, Specs) {
  EXPECT_EQ(parse_sim_method("gptq+refine", 5).descent_passes, 5);
  EXPECT_EQ(parse_sim_method("gptq", 5).descent_passes, 0);
  EXPECT_EQ(parse_sim_method("refine", 5).start, SimStart::kSearch);
  EXPECT_THROW(parse_sim_method("gtpq", 5), Error);
  EXPECT_FALSE(refusal(SimFormat::parse("int4:channel"), {SimStart::kPower, 0}).empty());
  EXPECT_FALSE(refusal(SimFormat::parse("kmeans4:row"), {SimStart::kHqq, 0}).empty());
}

}  // namespace
}  // namespace tsubu
