#include "calibrate/fisher.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "engine/random_model.h"

namespace tsubu {
namespace {

constexpr size_t kTokens = 40;
constexpr uint32_t kVocab = 50;

RandomModelOptions with_biases() {
  RandomModelOptions o;
  o.gpt2 = true;
  return o;
}

// What the last linear before the head does to one token moves that token's logits alone, so with its output moved by
// h v everywhere, KL(p ‖ p') = h²/2 Σ_t v F_t v + O(h³), and H_O is the mean of the F_t over tokens and draws.
TEST(Fisher, IsTheCurvatureOfTheDivergence) {
  const RandomModel model(with_biases());
  const std::string weight = "blk.1.ffn_down.weight", bias = "blk.1.ffn_down.bias";
  const std::vector<TokenId> tokens = random_tokens(kTokens, kVocab, 3);
  const auto bytes = model.tensor(bias).raw();
  const std::span<float> b = {reinterpret_cast<float*>(const_cast<std::byte*>(bytes.data())), bytes.size() / sizeof(float)};
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<float> v(b.size());
  for (float& value : v) value = normal(random);

  ThreadPool pool(2);
  Backward backward(model, pool);
  constexpr int kSeeds = 200;
  std::vector<double> forms;
  for (int seed = 0; seed < kSeeds; ++seed) {
    FisherSums sums(model.graph(), 4096, pool);
    add_fisher_window(backward, tokens, static_cast<uint64_t>(seed), 0, sums, pool);
    EXPECT_EQ(sums.n_tokens(), kTokens);
    const auto h = sums.block(weight, 0);
    double form = 0;
    for (size_t i = 0; i < v.size(); ++i)
      for (size_t j = 0; j < v.size(); ++j)
        form += static_cast<double>(v[i]) * static_cast<double>(h[i * v.size() + j]) * static_cast<double>(v[j]);
    forms.push_back(form);
  }
  const double mean = std::accumulate(forms.begin(), forms.end(), 0.0) / kSeeds;
  double variance = 0;
  for (double f : forms) variance += (f - mean) * (f - mean) / (kSeeds - 1);
  const double standard_error = std::sqrt(variance / kSeeds);

  constexpr double kStep = 1e-3;
  const std::vector<double> before = reference_logits(model, tokens);
  double divergence[2];
  for (const int side : {0, 1}) {
    std::vector<float> kept(b.begin(), b.end());
    for (size_t i = 0; i < v.size(); ++i) b[i] += static_cast<float>(side == 0 ? kStep : -kStep) * v[i];
    const std::vector<double> after = reference_logits(model, tokens);
    std::copy(kept.begin(), kept.end(), b.begin());
    divergence[side] = 0;
    for (size_t t = 0; t < kTokens; ++t) {
      double sums[2] = {};
      for (size_t i = 0; i < kVocab; ++i) {
        sums[0] += std::exp(before[t * kVocab + i]);
        sums[1] += std::exp(after[t * kVocab + i]);
      }
      for (size_t i = 0; i < kVocab; ++i) {
        const double log_p = before[t * kVocab + i] - std::log(sums[0]), log_q = after[t * kVocab + i] - std::log(sums[1]);
        divergence[side] += std::exp(log_p) * (log_p - log_q);
      }
    }
  }
  const double want = (divergence[0] + divergence[1]) / (kStep * kStep) / kTokens;
  EXPECT_NEAR(mean, want, 4 * standard_error + 0.01 * want);
  EXPECT_LT(standard_error, 0.1 * want);  // else this says nothing
}

TEST(Fisher, BlocksAreThoseOfTheWhole) {
  const RandomModel model(with_biases());
  ThreadPool pool(2), three(3);
  Backward backward(model, pool), other(model, three);
  FisherSums whole(model.graph(), 4096, pool), cut(model.graph(), 32, three);
  for (uint32_t w = 0; w < 3; ++w) {
    add_fisher_window(backward, random_tokens(kTokens, kVocab, w), 1, w, whole, pool);
    add_fisher_window(other, random_tokens(kTokens, kVocab, w), 1, w, cut, three);
  }
  EXPECT_FALSE(whole.has("token_embd.weight"));  // the head
  const std::string weight = "blk.0.attn_qkv.weight";
  const size_t n = 96;
  const auto all = whole.block(weight, 0);
  ASSERT_EQ(all.size(), n * n);
  double trace = 0;
  for (size_t first = 0; first < n; first += 32) {
    const auto block = cut.block(weight, first);
    ASSERT_EQ(block.size(), 32u * 32);
    for (size_t i = 0; i < 32; ++i)
      for (size_t j = 0; j < 32; ++j) ASSERT_EQ(block[i * 32 + j], all[(first + i) * n + first + j]);
    trace += static_cast<double>(block[0]);
  }
  EXPECT_GT(trace, 0);
}

TEST(Fisher, BlocksFitTheMemory) {
  const RandomModel model(with_biases());
  EXPECT_EQ(fisher_block_rows(model.graph(), 4096, 2, uint64_t{1} << 30), 4096u);
  const size_t rows = fisher_block_rows(model.graph(), 4096, 2, 64 << 10);
  EXPECT_LT(rows, 96u);
  EXPECT_GE(rows, 16u);
}

}  // namespace
}  // namespace tsubu
