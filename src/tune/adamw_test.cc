#include "tune/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "base/test_error_code.h"
#include "tune/schedule.h"

namespace tsubu {
namespace {

// Logistic regression on labels that a hidden vector gives with noise; columns differ in size by 1000 times, so gradients do
// too.
struct Regression {
  static constexpr size_t kColumns = 1000, kRows = 400;
  std::vector<float> x, labels;

  Regression() {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    std::vector<float> truth(kColumns), size(kColumns);
    for (size_t c = 0; c < kColumns; ++c) {
      truth[c] = normal(random);
      size[c] = std::pow(10.0f, -3 * static_cast<float>(c) / kColumns);
    }
    for (size_t r = 0; r < kRows; ++r) {
      float y = 0;
      for (size_t c = 0; c < kColumns; ++c) {
        x.push_back(normal(random) * size[c]);
        y += x.back() * truth[c];
      }
      labels.push_back(y + normal(random) > 0 ? 1.0f : 0.0f);
    }
  }
  // Mean loss of rows [first, first + n); its gradient unless nullptr.
  double loss(const std::vector<float>& w, size_t first, size_t n, std::vector<float>* gradient) const {
    double sum = 0;
    if (gradient) gradient->assign(kColumns, 0.0f);
    for (size_t r = first; r < first + n; ++r) {
      const float* row = x.data() + r * kColumns;
      const float y = std::inner_product(w.begin(), w.end(), row, 0.0f), p = 1 / (1 + std::exp(-y));
      sum -= std::log(static_cast<double>(labels[r] > 0 ? p : 1 - p) + 1e-12);
      for (size_t c = 0; gradient && c < kColumns; ++c) (*gradient)[c] += (p - labels[r]) * row[c] / static_cast<float>(n);
    }
    return sum / static_cast<double>(n);
  }
  // Losses after each pass over the rows, 40 a step.
  std::vector<double> train(bool states_8bit, int n_threads = 1) const {
    AdamWOptions options;
    options.states_8bit = states_8bit;
    options.min_8bit = 0;
    options.weight_decay = 0.01f;
    AdamW adam(kColumns, options);
    ThreadPool pool(n_threads);
    std::vector<float> w(kColumns, 0.0f), gradient;
    std::vector<double> losses;
    constexpr size_t kPasses = 20, kBatch = 40, kSteps = kPasses * kRows / kBatch;
    for (size_t step = 0; step < kSteps; ++step) {
      loss(w, step * kBatch % kRows, kBatch, &gradient);
      adam.step(w, gradient, 0.02 * RateSchedule{}.share(step, kSteps), step + 1, pool);
      if ((step + 1) * kBatch % kRows == 0) losses.push_back(loss(w, 0, kRows, nullptr));
    }
    return losses;
  }
};

TEST(AdamW, TrainsInEightBitsAsInF32) {
  const Regression r;
  const std::vector<double> exact = r.train(false), coded = r.train(true);
  EXPECT_LT(exact.back(), 0.5 * std::log(2.0));  // it does learn
  for (size_t i = 0; i < exact.size(); ++i) EXPECT_NEAR(coded[i], exact[i], 0.02 * std::log(2.0)) << "pass " << i;
}

// By hand in double, without the library's own blocks.
TEST(AdamW, IsTheFormula) {
  AdamWOptions options;
  options.weight_decay = 0.1f;
  options.states_8bit = false;
  AdamW adam(3, options);
  ThreadPool pool(1);
  std::vector<float> w = {1, -2, 0.5f};
  std::vector<double> expected(w.begin(), w.end()), m(3), v(3);
  const double b1 = static_cast<double>(options.first_decay), b2 = static_cast<double>(options.second_decay);
  for (uint64_t t = 1; t <= 5; ++t) {
    const std::vector<float> g = {0.3f, -0.01f * static_cast<float>(t), t == 2 ? 4.0f : 0.0f};
    adam.step(w, g, 0.01, t, pool);
    for (size_t i = 0; i < 3; ++i) {
      m[i] = b1 * m[i] + (1 - b1) * static_cast<double>(g[i]);
      v[i] = b2 * v[i] + (1 - b2) * static_cast<double>(g[i]) * static_cast<double>(g[i]);
      const double n = static_cast<double>(t);
      expected[i] -= 0.01 * (m[i] / (1 - std::pow(b1, n)) / (std::sqrt(v[i] / (1 - std::pow(b2, n))) + 1e-8) + 0.1 * expected[i]);
    }
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(static_cast<double>(w[i]), expected[i], 5 * 4 * 0x1p-24 * 2) << i;
}

// One step from nothing, then one with a gradient of zero: what is left of the step is what the states remember. Every
// code must be the nearest of its map, and a second moment is never lost.
TEST(AdamW, StatesAreTheNearestOfTheMaps) {
  constexpr size_t kN = 1 << 14;
  AdamWOptions options;
  options.min_8bit = 0;
  ThreadPool pool(2);
  AdamW coded(kN, options);
  options.states_8bit = false;
  AdamW exact(kN, options);
  std::mt19937 random(3);
  std::vector<float> g(kN), w(kN), w_exact(kN), zero(kN);
  for (float& x : g) x = std::ldexp(static_cast<float>(random() % 4096) - 2048, -static_cast<int>(random() % 20));
  coded.step(w, g, 1e-3, 1, pool);
  exact.step(w_exact, g, 1e-3, 1, pool);
  EXPECT_EQ(w, w_exact);  // the first step knows the moments exactly
  coded.step(w, zero, 1e-3, 2, pool);
  exact.step(w_exact, zero, 1e-3, 2, pool);
  for (size_t i = 0; i < kN; ++i) {
    // Exact, the second step is .68 of the first. Where codes are far apart, a second moment may be 1.9 times too small and a
    // first 1.1 times too large; smaller ones are rounded up, which shortens the step.
    EXPECT_LE(std::fabs(w[i]), (1 + 0.68f * 1.4f * 1.1f) * 1e-3f) << i;
    float largest = 0;
    for (size_t k = i / 256 * 256; k < i / 256 * 256 + 256; ++k) largest = std::max(largest, std::fabs(g[k]));
    if (std::fabs(g[i]) > 0.1f * largest) {  // errors of 7 % of m and of v at most, in .68 of 1.68 of the way
      EXPECT_NEAR(w[i], w_exact[i], 0.05f * std::fabs(w_exact[i])) << i;
    }
  }
}

TEST(AdamW, DoesNotDependOnThreadsAndGoesOnFromItsSavedState) {
  constexpr size_t kN = 70001;  // not whole blocks, several items
  for (const bool states_8bit : {true, false}) {
    AdamWOptions options;
    options.states_8bit = states_8bit;
    AdamW one(kN, options), three(kN, options);
    ThreadPool pool_one(1), pool_three(3);
    std::vector<float> w_one(kN, 1.0f), w_three(kN, 1.0f), g(kN);
    std::mt19937 random(11);
    for (uint64_t t = 1; t <= 3; ++t) {
      for (float& x : g) x = static_cast<float>(random()) * 0x1p-32f - 0.5f;
      one.step(w_one, g, 1e-2, t, pool_one);
      three.step(w_three, g, 1e-2, t, pool_three);
    }
    EXPECT_EQ(w_one, w_three);
    const std::vector<std::byte> saved = one.save();
    EXPECT_EQ(saved.size(), one.state_bytes());
    EXPECT_EQ(saved, three.save());
    AdamW again(kN, options);
    again.load(saved, "again");
    again.step(w_one, g, 1e-2, 4, pool_one);
    three.step(w_three, g, 1e-2, 4, pool_three);
    EXPECT_EQ(w_one, w_three);
    EXPECT_EQ(code_of([&] { again.load(std::span(saved).first(saved.size() - 1), "cut"); }), ExitCode::kBadInput);
  }
  EXPECT_LT(AdamW::state_bytes(kN, {}) * 3, AdamW::state_bytes(kN, {.states_8bit = false}));
}

TEST(RateSchedule, WarmsUpAndFallsToItsFloor) {
  const RateSchedule schedule{.warm_up = 0.1, .floor = 0.05};
  constexpr uint64_t kSteps = 200;
  for (uint64_t s = 0; s + 1 < kSteps; ++s) {
    const double now = schedule.share(s, kSteps), next = schedule.share(s + 1, kSteps);
    EXPECT_GT(now, 0);
    EXPECT_LE(now, 1);
    if (s + 1 < kSteps / 10) {
      EXPECT_LT(now, next) << s;
    } else if (s > kSteps / 10) {
      EXPECT_GT(now, next) << s;
    }
  }
  EXPECT_DOUBLE_EQ(schedule.share(kSteps / 10, kSteps), 1);
  EXPECT_NEAR(schedule.share(kSteps - 1, kSteps), 0.05, 1e-3);
  EXPECT_GT(RateSchedule{}.share(0, 1), 0);  // a single step is not lost
}

}  // namespace
}  // namespace tsubu
