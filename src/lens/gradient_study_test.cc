#include "lens/gradient_study.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "engine/random_model.h"
#include "lens/gradient_figures.h"

namespace tsubu {
namespace {

class GradientStudying : public testing::Test {
 protected:
  GradientStudying() : model(shape()), pool(2) {
    for (uint32_t c = 0; c < 16; ++c) windows.push_back(random_tokens(32, 50, c));
    for (uint32_t c = 0; c < 4; ++c) held.push_back(random_tokens(32, 50, 100 + c));
    for (const char* name : {"Q4_0", "Q8_0"}) options.types.push_back(&type_named(name));
  }
  static RandomModelOptions shape() {
    return random_options([](RandomModelOptions& o) { o.n_embd = o.n_ff = 64, o.head_dim = 16; });
  }
  RandomModel model;
  ThreadPool pool;
  std::vector<std::vector<TokenId>> windows, held;
  GradientStudyOptions options;
};

TEST_F(GradientStudying, PredictionsAreComparedWithWhatSingleTensorsCost) {
  const GradientStudy study = study_gradients(model, windows, held, options, pool);
  ASSERT_EQ(study.tensors.size(), sensitive_tensors(model).size());
  EXPECT_EQ(study.n_costs, 2 * study.tensors.size());
  EXPECT_EQ(study.n_left_out, 0u);
  for (size_t t = 0; t < study.tensors.size(); ++t) {
    const TensorPrediction& p = study.tensors[t];
    EXPECT_EQ(p.name, sensitive_tensors(model)[t]->name());
    ASSERT_EQ(p.types.size(), 2u);
    for (const TypePrediction& type : p.types) {
      ASSERT_TRUE(type.kld) << p.name;
      EXPECT_GT(*type.kld, 0) << p.name;
      EXPECT_GT(type.e, 0) << p.name;
      // Errors of plain search on normal weights are noise: the diagonal sees what α times the norm does.
      EXPECT_NEAR(std::log(type.predicted[4] / type.predicted[2]), 0, 0.3) << p.name << " " << type.type->name;
    }
    EXPECT_GT(p.types[0].r, 4 * p.types[1].r);
    EXPECT_NEAR(std::log(p.fisher_alpha / p.probe_alpha), 0, 6 * std::hypot(p.fisher_spread, p.probe_spread)) << p.name;
  }
  ASSERT_EQ(study.agreements.size(), kPredictors.size());
  for (size_t i = 0; i + 1 < kPredictors.size(); ++i) {
    const Agreement& a = study.agreements[i];
    EXPECT_EQ(a.predictor, kPredictors[i]);
    EXPECT_EQ(a.n, study.n_costs);
    EXPECT_GT(a.spearman, 0.9) << a.predictor;
    EXPECT_NEAR(std::log(a.level), 0, 0.5) << a.predictor;
  }
  EXPECT_GT(study.probe_seconds, 0);
  EXPECT_GT(study.fisher_seconds, 0);
  EXPECT_GT(study.harm_seconds, 0);
  const Json json = to_json(study);
  EXPECT_EQ(json["tensors"].size(), study.tensors.size());
  Charts charts;
  const std::string html = gradient_figures(study, charts, Words(Language::kEnglish));
  EXPECT_NE(html.find("first-order"), std::string::npos);
  EXPECT_EQ(html.find("nan"), std::string::npos);
  EXPECT_FALSE(charts.empty());
}

TEST_F(GradientStudying, GoesOnFromWhatIsKnownAndGivesTheSameValues) {
  Json work;
  options.work = &work;
  size_t n_asked = 0;
  options.is_over = [&] { return ++n_asked > sensitive_tensors(model).size() + 5; };  // in the middle of the costs
  const GradientStudy some = study_gradients(model, windows, held, options, pool);
  EXPECT_GT(some.n_left_out, 0u);
  EXPECT_LT(some.n_left_out, some.n_costs);
  options.is_over = {};
  Json rest = to_json(study_gradients(model, windows, held, options, pool));
  ThreadPool three(3);
  options.work = nullptr;
  Json whole = to_json(study_gradients(model, windows, held, options, three));
  for (Json* j : {&rest, &whole}) j->erase("seconds");
  EXPECT_EQ(rest, whole);
}

TEST_F(GradientStudying, WithoutTimeNothingIsMeasured) {
  options.is_over = [] { return true; };
  const GradientStudy none = study_gradients(model, windows, held, options, pool);
  EXPECT_TRUE(none.tensors.empty());
  EXPECT_EQ(none.n_left_out, none.n_costs);
  Charts charts;
  EXPECT_NE(gradient_figures(none, charts, Words(Language::kEnglish)).find("Nothing was measured"), std::string::npos);
}

TEST_F(GradientStudying, ATypeThatFitsNowhereIsAnError) {
  options.types = {&type_named("Q4_K")};  // blocks of 256, rows of 64
  EXPECT_THROW(study_gradients(model, windows, held, options, pool), Error);
}

TEST_F(GradientStudying, TiedHeadsAndMixturesAreStudied) {
  for (const bool is_mixture : {false, true}) {
    RandomModelOptions o = shape();
    if (is_mixture)
      o.n_experts = 3;
    else
      o.gpt2 = true;
    const RandomModel other(o);
    const GradientStudy study = study_gradients(other, windows, held, options, pool);
    EXPECT_EQ(study.tensors.size(), sensitive_tensors(other).size());
    EXPECT_EQ(study.n_left_out, 0u);
    ASSERT_EQ(study.agreements.size(), kPredictors.size());
    EXPECT_GT(study.agreements[4].spearman, 0.8);
  }
}

}  // namespace
}  // namespace tsubu
