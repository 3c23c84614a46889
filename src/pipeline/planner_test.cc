#include "pipeline/planner.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "base/error.h"
#include "engine/random_model.h"
#include "pipeline/fit.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

class Planning : public testing::Test {
 protected:
  Planning() : model(shape()), pool(2), path(fs::temp_directory_path() / ("tsubu-plan-" + std::to_string(getpid()))) {
    corpus.context = 32;
    for (uint32_t c = 0; c < 24; ++c) corpus.chunks.push_back(random_tokens(corpus.context, 50, c));
    for (const char* name : {"Q4_0", "Q5_0", "Q8_0", "F16"}) options.allowed.push_back(&type_named(name));
    quantize.n_threads = 2;
    options.n_anchors = 2;
    options.calibrated = false;
  }
  ~Planning() override { fs::remove(path); }
  static RandomModelOptions shape() {
    RandomModelOptions o;
    o.n_embd = o.n_ff = 64;
    o.head_dim = 16;
    return o;
  }
  RandomModel model;
  ThreadPool pool;
  fs::path path;
  Corpus corpus;
  PlannerOptions options;
  QuantizeOptions quantize;
};

TEST_F(Planning, SizesAreTheFilesAndTheBudgetIsKept) {
  const PlanCosts costs = plan_costs(model, corpus, quantize, options, pool);
  const std::vector<Plan> front = plan_front(costs, options);
  ASSERT_GE(front.size(), 10u);
  for (const double share : {0.1, 0.5, 0.9}) {
    PlanTarget target;
    target.max_bytes = front.front().size_bytes +
                       static_cast<uint64_t>(share * static_cast<double>(front.back().size_bytes - front.front().size_bytes));
    const Plan plan = make_plan(costs, options, target);
    EXPECT_TRUE(plan.is_optimal);
    EXPECT_LE(plan.size_bytes, target.max_bytes);
    EXPECT_GT(plan.size_bytes, target.max_bytes * 0.97);  // a model this small has few steps
    const Recipe recipe = recipe_from_json(to_json(plan_recipe(costs, plan, "plan")), "the plan");
    EXPECT_EQ(recipe_types(model, costs, recipe, {}), plan.types);
    EXPECT_EQ(quantized_bytes(model, recipe, quantize), plan.size_bytes);
    quantize.output = path.string();
    EXPECT_EQ(tsubu::quantize(model, recipe, quantize).size_bytes, plan.size_bytes);
    EXPECT_EQ(fs::file_size(path), plan.size_bytes);
  }
  PlanTarget nothing;
  nothing.max_bytes = front.front().size_bytes - 1;
  EXPECT_THROW(make_plan(costs, options, nothing), Error);
}

TEST_F(Planning, MoreBitsArePredictedToCostLessAndPredictionsHold) {
  const PlanCosts costs = plan_costs(model, corpus, quantize, options, pool);
  const std::vector<Plan> front = plan_front(costs, options);
  for (size_t i = 1; i < front.size(); ++i) EXPECT_LE(front[i].predicted.mean, front[i - 1].predicted.mean);
  HarmMeter meter(model, corpus.chunks, pool);
  for (const char* type : {"Q4_0", "Q5_0"}) {
    const std::vector<const TypeInfo*> types(costs.tensors.size(), &type_named(type));
    const double measured = measure_recipe(costs, types, nullptr, meter, pool).kld;
    EXPECT_NEAR(std::log(costs.predict(types).mean / measured), 0, 0.35) << type;
  }
}

TEST_F(Planning, ADivergenceIsMetWithTheFewestBytes) {
  const PlanCosts costs = plan_costs(model, corpus, quantize, options, pool);
  const std::vector<Plan> front = plan_front(costs, options);
  PlanTarget target;
  target.max_kld = std::sqrt(front.front().predicted.mean * front[front.size() - 2].predicted.mean);
  const Plan plan = make_plan(costs, options, target);
  EXPECT_LE(plan.predicted.mean, target.max_kld * 1.0001);
  EXPECT_TRUE(plan.is_optimal);
  for (const Plan& p : front)
    if (p.predicted.mean <= target.max_kld) EXPECT_GE(p.size_bytes, plan.size_bytes);
  target.max_kld = 1e-30;
  options.allowed.pop_back();  // without F16
  EXPECT_THROW(make_plan(costs, options, target), Error);
}

TEST_F(Planning, FusedTensorsShareAType) {
  const PlanCosts costs = plan_costs(model, corpus, quantize, options, pool);
  options.fused = true;
  for (const Plan& plan : plan_front(costs, options)) {
    std::map<std::pair<int, std::string>, const TypeInfo*> types;
    for (size_t t = 0; t < plan.types.size(); ++t) {
      const TensorSpec& spec = costs.tensors[t].sensitivity.tensor->spec();
      if (spec.role != Role::kAttnQ && spec.role != Role::kAttnK && spec.role != Role::kAttnV) continue;
      const auto [it, is_new] = types.emplace(std::pair(spec.layer, "qkv"), plan.types[t]);
      EXPECT_EQ(it->second, plan.types[t]) << spec.name;
    }
  }
}

TEST_F(Planning, CostsComeBackFromTheirFile) {
  options.costs_path = path.string();
  const PlanCosts costs = plan_costs(model, corpus, quantize, options, pool);
  ASSERT_TRUE(fs::exists(path));
  const PlanCosts again = plan_costs(model, corpus, quantize, options, pool);
  EXPECT_EQ(to_json(costs), to_json(again));
  corpus.hash = "another text";
  EXPECT_FALSE(load_costs(model, costs_key(model, corpus, quantize, options), path.string()));
}

TEST_F(Planning, TheSameForAnyNumberOfThreads) {
  ThreadPool one(1);
  Json a = to_json(plan_costs(model, corpus, quantize, options, pool)), b = to_json(plan_costs(model, corpus, quantize, options, one));
  a.erase("seconds");
  b.erase("seconds");
  EXPECT_EQ(a, b);
}

TEST_F(Planning, QuantizingToASizeKeepsWhatMeasuredBest) {
  SplitText text;
  text.calibration = text.probes = corpus;
  text.probes.chunks.resize(8);
  text.held_out.assign(corpus.chunks.begin() + 16, corpus.chunks.end());
  FitOptions fit;
  fit.planner = options;
  fit.quantize = quantize;
  fit.quantize.output = path.string();
  fit.second_pass = true;
  const PlanCosts costs = plan_costs(model, text.probes, quantize, options, pool);
  const std::vector<Plan> front = plan_front(costs, options);
  fit.target.max_bytes = (front.front().size_bytes + front.back().size_bytes) / 2;
  const FitResult result = quantize_to_fit(model, text, fit);
  ASSERT_FALSE(result.candidates.empty());
  double least = 1e300, kept = 0;
  for (const FitCandidate& c : result.candidates) {
    EXPECT_LE(c.size_bytes, fit.target.max_bytes) << c.name;
    least = std::min(least, c.measured);
    if (c.is_kept) kept = c.measured;
  }
  EXPECT_EQ(kept, least);
  EXPECT_EQ(fs::file_size(path), result.quantized.size_bytes);
  for (size_t i = 1; i <= result.candidates.size(); ++i)
    EXPECT_FALSE(fs::exists(path.string() + ".tsubu-try-" + std::to_string(i)));
}

}  // namespace
}  // namespace tsubu
