#include "lens/gradient_sensitivity.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "engine/random_model.h"
#include "gradient/loss.h"
#include "gradient/weight_gradients.h"
#include "lens/sensitivity.h"

namespace tsubu {
namespace {

constexpr size_t kContext = 32;
constexpr uint32_t kVocab = 50;

std::vector<std::vector<TokenId>> some_windows(uint32_t n) {
  std::vector<std::vector<TokenId>> windows;
  for (uint32_t w = 0; w < n; ++w) windows.push_back(random_tokens(kContext, kVocab, w));
  return windows;
}

struct Mean {
  double sum = 0, squares = 0, n = 0;
  void add(double v) {
    sum += v;
    squares += v * v;
    ++n;
  }
  double mean() const { return sum / n; }
  double error() const { return std::sqrt(std::max(0.0, squares / n - mean() * mean()) / (n - 1)); }
};

// α of the Fisher diagonal and the divergence that small noise really makes, over r²: the same number within what the draws
// of labels and of noise leave open.
void expect_the_curvature(const RandomModelOptions& shape) {
  const RandomModel model(shape);
  ThreadPool pool(2);
  const auto windows = some_windows(6);
  constexpr uint64_t kLabelSeeds = 60, kNoiseSeeds = 24;
  const size_t n_tensors = sensitive_tensors(model).size();
  std::vector<Mean> fisher[2], noise[2];
  for (int kind : {0, 1}) {
    fisher[kind].resize(n_tensors);
    noise[kind].resize(n_tensors);
  }
  for (uint64_t seed = 1; seed <= kLabelSeeds; ++seed) {
    const auto found = gradient_sensitivities(model, windows, {.seed = seed}, pool);
    ASSERT_EQ(found.size(), n_tensors);
    for (size_t t = 0; t < n_tensors; ++t) {
      fisher[0][t].add(found[t].alpha);
      fisher[1][t].add(found[t].alpha_rows);
      EXPECT_GT(found[t].spread, 0);
    }
  }
  HarmMeter meter(model, windows, pool);
  for (int kind : {0, 1}) {
    SensitivityOptions o;
    o.probe = parse_perturbation(kind == 0 ? "gaussian" : "rows");
    o.r = 0.02;
    o.least_kld = 0;
    for (uint64_t seed = 1; seed <= kNoiseSeeds; ++seed) {
      o.probe.seed = seed;
      const auto probed = sensitivities(model, meter, o, pool);
      ASSERT_EQ(probed.size(), n_tensors);
      for (size_t t = 0; t < n_tensors; ++t) {
        EXPECT_EQ(probed[t].tensor, sensitive_tensors(model)[t]);
        noise[kind][t].add(probed[t].alpha);
      }
    }
  }
  for (int kind : {0, 1})
    for (size_t t = 0; t < n_tensors; ++t) {
      const Mean &f = fisher[kind][t], &p = noise[kind][t];
      const double error = std::hypot(f.error(), p.error());
      EXPECT_NEAR(f.mean(), p.mean(), 4 * error + 0.01 * p.mean()) << sensitive_tensors(model)[t]->name() << " kind " << kind;
      EXPECT_LT(error, 0.12 * p.mean()) << sensitive_tensors(model)[t]->name();  // else this says nothing
    }
}

TEST(GradientSensitivity, IsWhatSmallNoiseCosts) { expect_the_curvature({}); }
TEST(GradientSensitivity, IsWhatSmallNoiseCostsInATableThatIsTheHeadToo) {
  expect_the_curvature(random_options([](RandomModelOptions& o) { o.gpt2 = true; }));
}
TEST(GradientSensitivity, IsWhatSmallNoiseCostsInSoftCappedModels) {
  expect_the_curvature(random_options([](RandomModelOptions& o) { o.gemma = true; }));
}

TEST(GradientSensitivity, ExpertsHaveTheirRows) {
  const RandomModel model(random_options([](RandomModelOptions& o) { o.n_experts = 4; }));
  ThreadPool pool(2);
  const auto windows = some_windows(4);
  const auto found = gradient_sensitivities(model, windows, {.keeps_fisher = true}, pool);
  size_t n_stacks = 0;
  for (const GradientSensitivity& s : found) {
    EXPECT_GT(s.alpha, 0) << s.tensor->name();
    // Σ F over the rows is what α is made of.
    double sum = 0, norm = 0;
    std::vector<float> x(s.tensor->n_cols());
    for (uint64_t r = 0; r < s.tensor->n_rows(); ++r) {
      s.tensor->read_rows(r, 1, x.data());
      for (float v : x) norm += static_cast<double>(v) * static_cast<double>(v);
    }
    for (float v : s.fisher) sum += static_cast<double>(v);
    EXPECT_NEAR(norm * sum / static_cast<double>(s.fisher.size()) / 2, s.alpha, 1e-4 * s.alpha) << s.tensor->name();
    n_stacks += s.tensor->n_matrices() > 1 ? 1 : 0;
  }
  EXPECT_EQ(n_stacks, 6u);
}

TEST(GradientSensitivity, ValuesDoNotDependOnTheThreads) {
  const RandomModel model(random_options([](RandomModelOptions& o) { o.gpt2 = true; }));
  ThreadPool one(1), three(3);
  const auto windows = some_windows(3);
  const GradientOptions options = {.keeps_fisher = true, .keeps_gradient = true};
  const auto a = gradient_sensitivities(model, windows, options, one), b = gradient_sensitivities(model, windows, options, three);
  ASSERT_EQ(a.size(), b.size());
  for (size_t t = 0; t < a.size(); ++t) {
    EXPECT_EQ(a[t].alpha, b[t].alpha);
    EXPECT_EQ(a[t].alpha_rows, b[t].alpha_rows);
    EXPECT_EQ(a[t].spread, b[t].spread);
    EXPECT_TRUE(std::equal(a[t].fisher.begin(), a[t].fisher.end(), b[t].fisher.begin()));
    EXPECT_TRUE(std::equal(a[t].gradient.begin(), a[t].gradient.end(), b[t].gradient.begin()));
  }
  const auto other = gradient_sensitivities(model, windows, {.seed = 2}, one);
  EXPECT_NE(a.front().alpha, other.front().alpha);
  EXPECT_TRUE(other.front().fisher.empty() && other.front().gradient.empty());
}

TEST(GradientSensitivity, TheTextsGradientIsThatOfItsMeanLoss) {
  const RandomModelOptions shape;
  const RandomModel model(shape);
  ThreadPool pool(2);
  const auto windows = some_windows(2);
  const auto found = gradient_sensitivities(model, windows, {.keeps_gradient = true}, pool);
  Backward backward(model, pool);
  WeightGradients sums(model, pool);
  const size_t first_scored = kContext / 2;
  for (const auto& window : windows)
    backward.run(
        std::span(window).first(kContext - 1), first_scored,
        [&](size_t first, size_t n, float* logits) {
          return cross_entropy(std::span(window).subspan(first + 1, n), 1, logits, kVocab, pool);
        },
        sums);
  const auto n_scored = static_cast<float>(2 * (kContext - 1 - first_scored));
  for (const GradientSensitivity& s : found) {
    const auto& sum = sums.all().at(s.tensor->name());
    ASSERT_EQ(sum.size(), s.gradient.size());
    for (size_t i = 0; i < sum.size(); ++i) ASSERT_NEAR(s.gradient[i], sum[i] / n_scored, 1e-7f) << s.tensor->name();
  }
}

TEST(GradientSensitivity, WindowsThatAreNoneAreAnError) {
  const RandomModelOptions shape;
  const RandomModel model(shape);
  ThreadPool pool(1);
  EXPECT_THROW(gradient_sensitivities(model, {}, {}, pool), Error);
  const std::vector<std::vector<TokenId>> unequal = {random_tokens(16, kVocab, 1), random_tokens(15, kVocab, 2)};
  EXPECT_THROW(gradient_sensitivities(model, unequal, {}, pool), Error);
}

}  // namespace
}  // namespace tsubu
