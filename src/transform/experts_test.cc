// Transforms of mixtures: scales of what router and experts read, and of each expert by itself, fold away.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "container/test_bytes.h"
#include "engine/random_model.h"
#include "model/test_models.h"
#include "transform/fold.h"
#include "transform/transforms.h"

namespace tsubu {
namespace {

Corpus text_of(uint32_t n_vocab, size_t n_chunks) {
  Corpus corpus;
  corpus.context = 24;
  for (size_t i = 0; i < n_chunks; ++i) corpus.chunks.push_back(random_tokens(24, n_vocab, 100 + static_cast<uint32_t>(i)));
  return corpus;
}

// Largest difference over the logits' root mean square, both models in double: what is left is the rounding of weights to F32.
double logit_difference(const Model& a, const Model& b, uint32_t n_vocab) {
  const std::vector<TokenId> tokens = random_tokens(20, n_vocab, 9);
  const std::vector<double> x = reference_logits(a, tokens), y = reference_logits(b, tokens);
  double most = 0, square = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    most = std::max(most, std::fabs(x[i] - y[i]));
    square += x[i] * x[i];
  }
  return most / std::sqrt(square / static_cast<double>(x.size()));
}

std::vector<float> values_of(const Model& model, const std::string& name) {
  std::vector<float> x(model.tensor(name).n_elements());
  model.tensor(name).read_rows(0, model.tensor(name).n_rows(), x.data());
  return x;
}

TransformOptions options_for(const Corpus& corpus) {
  TransformOptions options;
  options.source.corpus = &corpus;
  options.awq.type_of = [](const std::string& name) {
    return &type_named(name.find("ffn_gate_inp") == std::string::npos ? "Q4_0" : "F32");
  };
  options.smoothquant_alpha = 0.5;
  return options;
}

RandomModelOptions mixture(uint32_t n_ff_shared = 0) {
  RandomModelOptions o;
  o.n_ff = 64;
  o.n_experts = 4;
  o.n_ff_shared = n_ff_shared;
  return o;
}

// Channels of very different sizes where router and experts read, and in the experts themselves.
std::unique_ptr<EditableModel> with_outliers(const Model& model, ThreadPool& pool) {
  auto edited = std::make_unique<EditableModel>(model);
  for (const char* norm : {"blk.0.ffn_norm.weight", "blk.1.ffn_norm.weight"})
    edited->edit_rows(norm, pool, [](uint64_t, std::span<double> gain) {
      for (size_t c = 0; c < gain.size(); c += 5) gain[c] *= 12;
    });
  for (const char* router : {"blk.0.ffn_gate_inp.weight", "blk.1.ffn_gate_inp.weight"})
    edited->edit_rows(router, pool, [](uint64_t, std::span<double> row) {
      for (size_t c = 0; c < row.size(); c += 5) row[c] /= 12;
    });
  for (const char* up : {"blk.0.ffn_up_exps.weight", "blk.1.ffn_up_exps.weight"})
    edited->edit_rows(up, pool, [](uint64_t r, std::span<double> row) {
      for (double& v : row) v *= r % 7 == 3 ? 10 : 1;
    });
  return edited;
}

TEST(Experts, AnyScalesFoldAway) {
  ThreadPool pool(2);
  for (auto* make : {tiny_mixtral, tiny_qwen3moe, tiny_gpt_oss, tiny_deepseek2, tiny_deepseek3}) {
    const TemporaryFolder folder;
    make().write(folder.path().string());
    const auto model = Model::open(folder.path().string());
    EditableModel edited(*model);
    std::mt19937 random(3);
    const auto scales_of = [&](size_t n) {
      std::vector<double> scales(n);
      for (double& s : scales) s = std::exp(std::normal_distribution<double>(0, 1)(random));
      return scales;
    };
    size_t n_mixed = 0;
    for (const FoldableGroup& group : foldable_groups(model->graph())) {
      std::vector<double> scales = scales_of(model->tensor(group.linears.front()).n_cols());
      tie_channels(group, Tie::kMean, scales);
      fold_scales(edited, group, scales, pool);
      n_mixed += !group.experts.empty();
    }
    EXPECT_GE(n_mixed, 1u) << model->hparams().architecture;
    const auto experts = foldable_experts(model->graph());
    EXPECT_EQ(experts.size(), make == tiny_gpt_oss ? 0 : n_mixed);  // its gate is not linear in up
    for (const FoldableExperts& group : experts)
      fold_expert_scales(edited, group, scales_of(uint64_t{group.n_experts} * group.n_cols), pool);
    for (const char* name : {"blk.1.ffn_gate_exps.weight", "blk.1.ffn_down_exps.weight", "blk.1.ffn_gate_inp.weight"})
      if (make != tiny_gpt_oss || std::string(name).find("down") == std::string::npos) {
        EXPECT_NE(values_of(*model, name), values_of(edited, name)) << name;
      }
    EXPECT_LT(logit_difference(*model, edited, 257), 2e-5) << model->hparams().architecture;
  }
}

TEST(Experts, AwqLowersTheErrorAndKeepsTheLogits) {
  ThreadPool pool(2);
  for (uint32_t shared : {0u, 32u}) {
    const RandomModel random(mixture(shared));
    const auto model = with_outliers(random, pool);
    const Corpus corpus = text_of(50, 24);
    const TransformResult result = apply_transforms(*model, {"awq"}, options_for(corpus), pool);
    EXPECT_LT(logit_difference(*model, *result.model, 50), 2e-5);
    size_t n_mixed = 0, n_down = 0;
    for (const TransformedGroup& g : result.reports.at(0).groups) {
      EXPECT_LE(g.error, g.error_before) << g.linears.front();
      const bool is_mixed = g.linears.back().find("up_exps") != std::string::npos;
      const bool is_down = g.linears.front().find("down_exps") != std::string::npos;
      n_mixed += is_mixed;
      n_down += is_down;
      if (is_mixed || is_down) {
        EXPECT_LT(g.error, 0.9 * g.error_before) << g.linears.front();
      }
    }
    EXPECT_EQ(n_mixed, 2u);
    EXPECT_EQ(n_down, 2u);
  }
}

TEST(Experts, SmoothquantKeepsTheLogits) {
  ThreadPool pool(2);
  const RandomModel random(mixture(32));
  const auto model = with_outliers(random, pool);
  const Corpus corpus = text_of(50, 24);
  for (bool searched : {false, true}) {
    TransformOptions options = options_for(corpus);
    if (searched) options.smoothquant_alpha.reset();
    const TransformResult result = apply_transforms(*model, {"smoothquant"}, options, pool);
    EXPECT_LT(logit_difference(*model, *result.model, 50), 2e-5);
    for (const char* name : {"blk.0.ffn_gate_exps.weight", "blk.0.ffn_down_exps.weight", "blk.0.ffn_gate_inp.weight"})
      EXPECT_NE(values_of(*model, name), values_of(*result.model, name)) << name;
    for (const TransformedGroup& g : result.reports.at(0).groups)
      if (searched) {
        EXPECT_LE(g.error, g.error_before) << g.linears.front();
      }
  }
}

TEST(Experts, NeitherTheThreadsNorTheMemoryMatter) {
  ThreadPool one(1), three(3);
  const RandomModel random(mixture());
  const auto model = with_outliers(random, one);
  const Corpus corpus = text_of(50, 24);
  TransformOptions small = options_for(corpus);
  small.awq.expert_memory = 1;  // one expert at a time
  const TransformResult a = apply_transforms(*model, {"awq"}, options_for(corpus), one);
  const TransformResult b = apply_transforms(*model, {"awq"}, small, three);
  for (const ModelTensor& t : model->tensors()) EXPECT_EQ(values_of(*a.model, t.name()), values_of(*b.model, t.name())) << t.name();
}

TEST(Experts, ThoseOfFewTokensAreLeftAlone) {
  ThreadPool pool(2);
  const RandomModel model(mixture());
  const Corpus corpus = text_of(50, 1);
  const TransformResult result = apply_transforms(model, {"awq"}, options_for(corpus), pool);
  EXPECT_EQ(result.reports.at(0).notes, std::vector<std::string>{
      "8 of 8 experts got fewer than 64 tokens: their down projections were left alone"});
  EXPECT_EQ(values_of(model, "blk.0.ffn_down_exps.weight"), values_of(*result.model, "blk.0.ffn_down_exps.weight"));
}

}  // namespace
}  // namespace tsubu
