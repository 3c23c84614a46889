// Folding keeps the logits; searches lower what they say they lower; refusals.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "container/test_bytes.h"
#include "engine/engine.h"
#include "engine/random_model.h"
#include "model/test_models.h"
#include "transform/fold.h"
#include "transform/orthogonal.h"
#include "transform/rotate.h"
#include "transform/smoothquant.h"
#include "transform/transforms.h"

namespace tsubu {
namespace {

constexpr size_t kContext = 24;

Corpus random_corpus(uint32_t n_vocab, size_t n_chunks = 6) {
  Corpus corpus;
  corpus.context = kContext;
  for (size_t i = 0; i < n_chunks; ++i)
    corpus.chunks.push_back(random_tokens(kContext, n_vocab, 100 + static_cast<uint32_t>(i)));
  return corpus;
}

std::vector<float> engine_logits(const Model& model, const std::vector<TokenId>& tokens) {
  ThreadPool pool(1);
  const auto engine = Engine::make(model, pool);
  const auto session = engine->new_session(tokens.size());
  std::vector<float> logits(tokens.size() * engine->n_vocab());
  engine->forward(*session, tokens, tokens.size(), logits);
  return logits;
}

// Largest difference over the logits' root mean square.
double logit_difference(const Model& a, const Model& b, const std::vector<TokenId>& tokens) {
  const std::vector<float> x = engine_logits(a, tokens), y = engine_logits(b, tokens);
  double most = 0, square = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    most = std::max(most, std::fabs(static_cast<double>(x[i]) - static_cast<double>(y[i])));
    square += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  return most / std::sqrt(square / static_cast<double>(x.size()));
}

// Difference of any weight from the source: a transform that did nothing would keep every logit.
bool has_changed(const Model& a, const Model& b, const std::string& name) {
  std::vector<float> x(a.tensor(name).n_elements()), y(x.size());
  a.tensor(name).read_rows(0, a.tensor(name).n_rows(), x.data());
  b.tensor(name).read_rows(0, b.tensor(name).n_rows(), y.data());
  return x != y;
}

TransformOptions options_for(const Corpus& corpus, const std::string& type = "Q4_0") {
  TransformOptions options;
  options.source.corpus = &corpus;
  options.awq.type_of = [type](const std::string&) { return &type_named(type); };
  options.smoothquant_alpha = 0.5;
  return options;
}

struct Case {
  const char* name;
  TinyModel (*make)();
};
class EveryArchitecture : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    TinyModel tiny = GetParam().make();
    // Norm gains and everything else away from one, so that a gain left behind is seen.
    tiny.write(folder_.path().string());
    model_ = Model::open(folder_.path().string());
    n_vocab_ = model_->hparams().n_vocab;
    corpus_ = random_corpus(257);
    options_ = options_for(corpus_, "Q8_0");
  }
  double difference(const Model& other) const { return logit_difference(*model_, other, random_tokens(20, 257, 9)); }

  TemporaryFolder folder_;
  std::unique_ptr<Model> model_;
  uint32_t n_vocab_ = 0;
  Corpus corpus_;
  TransformOptions options_;
  ThreadPool pool_{2};
};
INSTANTIATE_TEST_SUITE_P(Transform, EveryArchitecture,
                         ::testing::Values(Case{"llama", tiny_llama}, Case{"qwen2", tiny_qwen2},
                                           Case{"qwen3", tiny_qwen3}, Case{"gpt2", tiny_gpt2}),
                         [](const auto& param) { return param.param.name; });

TEST_P(EveryArchitecture, AnyScalesFoldAway) {
  EditableModel edited(*model_);
  uint32_t seed = 3;
  size_t n_groups = 0;
  for (const FoldableGroup& group : foldable_groups(model_->graph())) {
    std::mt19937 random(seed++);
    std::vector<double> scales(model_->tensor(group.linears.front()).n_cols());
    for (double& s : scales) s = std::exp(std::normal_distribution<double>(0, 1)(random));
    tie_channels(group, Tie::kMean, scales);
    fold_scales(edited, group, scales, pool_);
    for (const std::string& linear : group.linears) EXPECT_TRUE(has_changed(*model_, edited, linear)) << linear;
    ++n_groups;
  }
  EXPECT_EQ(n_groups, 2u * (GetParam().make == tiny_gpt2 ? 3 : 4));
  EXPECT_LT(difference(edited), 2e-5);
}

TEST_P(EveryArchitecture, SmoothquantKeepsTheLogits) {
  const TransformResult result = apply_transforms(*model_, {"smoothquant"}, options_, pool_);
  EXPECT_LT(difference(*result.model), 2e-5);
  EXPECT_TRUE(has_changed(*model_, *result.model, "blk.0.ffn_up.weight"));
}

TEST_P(EveryArchitecture, HeadsTurn) {
  const TransformResult result = apply_transforms(*model_, {"rotate-heads"}, options_, pool_);
  EXPECT_LT(difference(*result.model), 2e-5);
  EXPECT_TRUE(has_changed(*model_, *result.model, "blk.1.attn_output.weight"));
}

TEST_P(EveryArchitecture, TheResidualStreamTurnsUnderRmsNorms) {
  if (GetParam().make == tiny_gpt2) {
    try {
      apply_transforms(*model_, {"rotate-residual"}, options_, pool_);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUnsupported);
      EXPECT_NE(std::string(error.what()).find("layer norm"), std::string::npos) << error.what();
    }
    return;
  }
  const TransformResult result = apply_transforms(*model_, {"rotate-residual"}, options_, pool_);
  EXPECT_LT(difference(*result.model), 2e-5);
  EXPECT_TRUE(has_changed(*model_, *result.model, "token_embd.weight"));
  for (double gain : result.model->vector("blk.0.ffn_norm.weight")) EXPECT_EQ(gain, 1.0);
}

// Experts read the norm that the router reads; what they write is added up by weights before it joins the stream, in
// DeepSeek's with the output of an expert of all tokens. Logits of both models in double: what differs is the rounding of the
// turned weights to F32 alone.
TEST(Transform, TheResidualStreamOfMixturesTurns) {
  for (auto* make : {tiny_mixtral, tiny_qwen3moe, tiny_gpt_oss, tiny_deepseek2, tiny_deepseek3}) {
    const TemporaryFolder folder;
    make().write(folder.path().string());
    const auto model = Model::open(folder.path().string());
    const Corpus corpus = random_corpus(257);
    ThreadPool pool(2);
    const TransformResult result = apply_transforms(*model, {"rotate-residual"}, options_for(corpus), pool);
    const std::vector<TokenId> tokens = random_tokens(20, 257, 9);
    const std::vector<double> before = reference_logits(*model, tokens), after = reference_logits(*result.model, tokens);
    double most = 0, square = 0;
    for (size_t i = 0; i < before.size(); ++i) {
      most = std::max(most, std::fabs(after[i] - before[i]));
      square += before[i] * before[i];
    }
    EXPECT_LT(most / std::sqrt(square / static_cast<double>(before.size())), 2e-5) << model->hparams().architecture;
    for (const char* name : {"blk.1.ffn_gate_exps.weight", "blk.1.ffn_down_exps.weight", "blk.1.ffn_gate_inp.weight"})
      EXPECT_TRUE(has_changed(*model, *result.model, name)) << name;
  }
}

// 32 columns, so that Q4_0 fits and AWQ has something to choose.
RandomModelOptions wide(bool gpt2) {
  RandomModelOptions o;
  o.gpt2 = gpt2;
  o.n_ff = 64;
  return o;
}

// Channels of very different sizes, as real models have them.
std::unique_ptr<EditableModel> with_outliers(const Model& model, ThreadPool& pool) {
  auto edited = std::make_unique<EditableModel>(model);
  for (const FoldableGroup& group : foldable_groups(model.graph())) {
    if (group.norm_weight.empty()) continue;
    edited->edit_rows(group.norm_weight, pool, [](uint64_t, std::span<double> gain) {
      for (size_t c = 0; c < gain.size(); c += 5) gain[c] *= 12;
    });
  }
  return edited;
}

TEST(Awq, LowersTheErrorAndKeepsTheLogits) {
  ThreadPool pool(2);
  for (bool gpt2 : {false, true}) {
    const RandomModel random(wide(gpt2));
    const auto model = with_outliers(random, pool);
    const Corpus corpus = random_corpus(50);
    const TransformResult result = apply_transforms(*model, {"awq"}, options_for(corpus), pool);
    EXPECT_LT(logit_difference(*model, *result.model, random_tokens(20, 50, 9)), 5e-5);
    ASSERT_EQ(result.reports.at(0).groups.size(), gpt2 ? 6u : 8u);
    size_t n_scaled = 0;
    for (const TransformedGroup& g : result.reports[0].groups) {
      EXPECT_LE(g.error, g.error_before);
      EXPECT_EQ(g.alpha > 0, g.error < g.error_before);
      n_scaled += g.alpha > 0;
    }
    EXPECT_GE(n_scaled, 4u);  // the norms' groups have outliers
    EXPECT_LT(result.reports[0].groups[0].error, 0.8 * result.reports[0].groups[0].error_before);
  }
}

TEST(Awq, TheThreadsDoNotMatter) {
  ThreadPool one(1), three(3);
  const RandomModel random(wide(false));
  const auto model = with_outliers(random, one);
  const Corpus corpus = random_corpus(50);
  const TransformResult a = apply_transforms(*model, {"awq", "rotate-heads"}, options_for(corpus), one);
  const TransformResult b = apply_transforms(*model, {"awq", "rotate-heads"}, options_for(corpus), three);
  for (const ModelTensor& t : model->tensors()) EXPECT_FALSE(has_changed(*a.model, *b.model, t.name())) << t.name();
}

TEST(Awq, MatricesOfFloatTypesAreLeftAlone) {
  ThreadPool pool(1);
  const RandomModel model(wide(false));
  const Corpus corpus = random_corpus(50);
  const TransformResult result = apply_transforms(model, {"awq"}, options_for(corpus, "F16"), pool);
  EXPECT_TRUE(result.reports.at(0).groups.empty());
  EXPECT_EQ(result.reports[0].notes.size(), 1u);
  EXPECT_FALSE(has_changed(model, *result.model, "blk.0.attn_q.weight"));
}

TEST(Clipping, LowersTheErrorAndLeavesQueriesAlone) {
  ThreadPool pool(2);
  RandomModelOptions o = wide(false);
  RandomModel random(o);
  const Corpus corpus = random_corpus(50);
  const TransformResult result = apply_transforms(random, {"clip"}, options_for(corpus), pool);
  for (const TransformedGroup& g : result.reports.at(0).groups) EXPECT_LE(g.error, g.error_before) << g.linears[0];
  EXPECT_GE(result.reports[0].groups.size(), 2u * 4);
}

TEST(Smoothquant, LowersTheOutlierRatioOfTheNormsGroups) {
  ThreadPool pool(2);
  const RandomModel random(wide(false));
  const auto model = with_outliers(random, pool);
  const Corpus corpus = random_corpus(50);
  const TransformResult result = apply_transforms(*model, {"smoothquant"}, options_for(corpus), pool);
  const auto& groups = result.reports.at(0).groups;
  ASSERT_EQ(groups.size(), 8u);
  for (size_t g : {0, 2, 4, 6}) EXPECT_LT(groups[g].error, 0.6 * groups[g].error_before);
}

TEST(Smoothquant, TheSearchLowersTheEightBitError) {
  ThreadPool pool(2);
  const RandomModel random(wide(false));
  const auto model = with_outliers(random, pool);
  const Corpus corpus = random_corpus(50);
  TransformOptions options = options_for(corpus);
  options.smoothquant_alpha.reset();
  const TransformResult result = apply_transforms(*model, {"smoothquant"}, options, pool);
  const auto& groups = result.reports.at(0).groups;
  for (const TransformedGroup& g : groups) EXPECT_LE(g.error, g.error_before);
  EXPECT_LT(groups.at(0).error, 0.5 * groups[0].error_before);
  EXPECT_LT(logit_difference(*model, *result.model, random_tokens(20, 50, 9)), 5e-5);
}

TEST(Rotation, ATiedHeadGetsItsOwnMatrix) {
  TinyModel tiny = tiny_llama();
  tiny.config["tie_word_embeddings"] = true;
  tiny.remove("lm_head.weight");
  TemporaryFolder folder;
  tiny.write(folder.path().string());
  const auto model = Model::open(folder.path().string());
  ASSERT_EQ(model->find("output.weight"), nullptr);
  ThreadPool pool(2);
  EditableModel edited(*model);
  EXPECT_EQ(rotate_residual(edited, 1, pool).size(), 2u);
  EXPECT_NE(edited.find("output.weight"), nullptr);
  EXPECT_FALSE(edited.hparams().tied_embeddings);
  EXPECT_LT(logit_difference(*model, edited, random_tokens(20, 257, 9)), 2e-5);
}

TEST(Transforms, AllTogetherOnTheBundledModel) {
  const auto model = Model::open(TSUBU_SOURCE_DIR "/models/grain-7m");
  ThreadPool pool(2);
  const Corpus corpus = random_corpus(model->hparams().n_vocab, 4);
  TransformOptions options = options_for(corpus);
  options.awq.max_rows = 32;
  const TransformResult result =
      apply_transforms(*model, {"rotate-residual", "rotate-heads", "smoothquant", "awq"}, options, pool);
  EXPECT_EQ(result.reports.size(), 4u);
  EXPECT_LT(logit_difference(*model, *result.model, random_tokens(20, model->hparams().n_vocab, 9)), 1e-4);
  const GgufValue* done = result.model->gguf_metadata().find("tsubu.transform");
  ASSERT_NE(done, nullptr);
  EXPECT_EQ(done->as_array()->strings.size(), 4u);
}

TEST(Transforms, TheDocumentationNamesEveryOne) {
  const std::string docs = read_text_file(TSUBU_SOURCE_DIR "/docs/transform.md", 1 << 20);
  for (const Transform& t : transforms())
    EXPECT_NE(docs.find("`--" + std::string(t.name) + "`"), std::string::npos) << t.name;
}

TEST(Transforms, UnknownNamesAndMissingTextAreRefused) {
  ThreadPool pool(1);
  const RandomModel model(wide(false));
  EXPECT_THROW(apply_transforms(model, {"rotate"}, {}, pool), Error);
  EXPECT_THROW(apply_transforms(model, {}, {}, pool), Error);
  TransformOptions options;
  options.awq.type_of = [](const std::string&) { return &type_named("Q4_0"); };
  EXPECT_THROW(apply_transforms(model, {"awq"}, options, pool), Error);
}

TEST(Orthogonal, RowsAreOrthonormalForEveryKindOfSize) {
  for (size_t n : {1, 2, 6, 8, 12, 20, 24, 28, 36, 40, 76, 96, 112, 7, 30}) {
    const Orthogonal q(n, 5);
    std::vector<std::vector<double>> rows;
    for (size_t i = 0; i < n; ++i) {
      rows.emplace_back(n);
      rows[i][i] = 1;
      q.apply(rows[i]);
    }
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j) {
        double dot = 0;
        for (size_t c = 0; c < n; ++c) dot += rows[i][c] * rows[j][c];
        EXPECT_NEAR(dot, i == j ? 1 : 0, 1e-12) << n;
      }
    if (!q.is_hadamard()) continue;
    for (const auto& row : rows)
      for (double v : row) EXPECT_NEAR(std::fabs(v), 1 / std::sqrt(static_cast<double>(n)), 1e-12) << n;
  }
}

TEST(Orthogonal, KnowsTheUsualSizes) {
  EXPECT_EQ(hadamard_base(64), 1u);
  EXPECT_EQ(hadamard_base(1536), 12u);
  EXPECT_EQ(hadamard_base(5120), 20u);
  EXPECT_EQ(hadamard_base(3584), 28u);  // of the second kind: 2 · (13 + 1)
  EXPECT_EQ(hadamard_base(6), 0u);
  EXPECT_FALSE(Orthogonal(6, 1).is_hadamard());
}

}  // namespace
}  // namespace tsubu
