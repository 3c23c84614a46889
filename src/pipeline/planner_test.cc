#include "pipeline/planner.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "base/error.h"
#include "engine/random_model.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

class Planning : public testing::Test {
 protected:
  Planning() : model(random_options([](RandomModelOptions& o) { o.n_embd = o.n_ff = 64, o.head_dim = 16; })),
               pool(2), path(fs::temp_directory_path() / ("tsubu-plan-" + std::to_string(getpid()))) {
    corpus.context = 32;
    for (uint32_t c = 0; c < 24; ++c) corpus.chunks.push_back(random_tokens(corpus.context, 50, c));
    for (const char* name : {"Q4_0", "Q5_0", "Q8_0", "F16"}) options.allowed.push_back(&type_named(name));
    quantize.n_threads = 2;
    options.n_anchors = 2;
    options.calibrated = false;
  }
  ~Planning() override { fs::remove(path); }
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
    EXPECT_GT(plan.size_bytes, target.max_bytes * 0.93);  // four types of sixteen tensors are few steps
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
    if (p.predicted.mean <= target.max_kld) {
      EXPECT_GE(p.size_bytes, plan.size_bytes);
    }
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

TEST_F(Planning, SensitivitiesByGradientsGiveCostsInTheSameUnit) {
  options.costs_path = path.string();
  const PlanCosts probed = plan_costs(model, corpus, quantize, options, pool);
  options.method = sensitivity_method("fisher");
  const PlanCosts costs = plan_costs(model, corpus, quantize, options, pool);  // not those of the file
  ASSERT_EQ(costs.tensors.size(), probed.tensors.size());
  for (size_t t = 0; t < costs.tensors.size(); ++t) {
    const Sensitivity &a = costs.tensors[t].sensitivity, &b = probed.tensors[t].sensitivity;
    EXPECT_EQ(a.tensor, b.tensor);
    EXPECT_NEAR(std::log(a.alpha / b.alpha), 0, 6 * std::hypot(a.spread, b.spread)) << a.tensor->name();
    ASSERT_EQ(costs.tensors[t].types.size(), probed.tensors[t].types.size());
    for (size_t i = 0; i < costs.tensors[t].types.size(); ++i)
      EXPECT_EQ(costs.tensors[t].types[i].search_error, probed.tensors[t].types[i].search_error);
  }
  HarmMeter meter(model, corpus.chunks, pool);
  for (const char* type : {"Q4_0", "Q5_0"}) {
    const std::vector<const TypeInfo*> types(costs.tensors.size(), &type_named(type));
    const double measured = measure_recipe(costs, types, nullptr, meter, pool).kld;
    EXPECT_NEAR(std::log(costs.predict(types).mean / measured), 0, 0.35) << type;
  }
  EXPECT_EQ(to_json(plan_costs(model, corpus, quantize, options, pool)), to_json(costs));
  ThreadPool three(3);
  options.costs_path.clear();
  const PlanCosts again = plan_costs(model, corpus, quantize, options, three);
  for (size_t t = 0; t < costs.tensors.size(); ++t)
    EXPECT_EQ(again.tensors[t].sensitivity.alpha, costs.tensors[t].sensitivity.alpha);
  EXPECT_THROW(sensitivity_method("hessian"), Error);
}

// A target between the smallest and the largest of the plans.
PlanTarget target_at(double share, const PlanCosts& costs, const PlannerOptions& options) {
  const std::vector<Plan> front = plan_front(costs, options);
  PlanTarget target;
  target.max_bytes = front.front().size_bytes +
                     static_cast<uint64_t>(share * static_cast<double>(front.back().size_bytes - front.front().size_bytes));
  return target;
}

TEST_F(Planning, MeasuringMendsSensitivitiesThatAreWrong) {
  PlanCosts costs = plan_costs(model, corpus, quantize, options, pool);
  const PlanTarget target = target_at(0.3, costs, options);
  for (size_t t = 0; t < costs.tensors.size(); ++t)
    costs.tensors[t].sensitivity.alpha *= t % 3 == 0 ? 8 : t % 3 == 1 ? 1 : 0.125;
  costs.weigh();
  options.measure.per_tensor = 100;
  Refinement r;
  const Plan refined = refine_plan(model, corpus, quantize, options, target, costs, pool, &r);
  EXPECT_TRUE(r.is_stable);
  EXPECT_GT(r.n_measured, costs.tensors.size());
  EXPECT_FALSE(r.changes.empty());
  EXPECT_LT(r.last_cost, r.first_cost);
  EXPECT_LE(refined.size_bytes, target.max_bytes);
  EXPECT_GT(costs.scatter.between, 0.8);  // ln 8 is 2.1
  HarmMeter meter(model, corpus.chunks, pool);
  const double before = measure_recipe(costs, r.first.types, nullptr, meter, pool).kld;
  const double after = measure_recipe(costs, refined.types, nullptr, meter, pool).kld;
  EXPECT_LT(after, 0.7 * before);
  EXPECT_NEAR(std::log(costs.sum(refined.types) / after), 0, 0.2);  // what was measured adds up
}

TEST_F(Planning, MeasuringGoesOnWhereItStopped) {
  options.costs_path = path.string();
  PlanCosts costs = plan_costs(model, corpus, quantize, options, pool);
  const PlanTarget target = target_at(0.3, costs, options);
  options.measure.per_tensor = 1;
  Refinement part, rest, none;
  refine_plan(model, corpus, quantize, options, target, costs, pool, &part);
  EXPECT_EQ(part.n_measured, costs.tensors.size());
  options.measure.per_tensor = 100;
  PlanCosts again = plan_costs(model, corpus, quantize, options, pool);
  const Plan resumed = refine_plan(model, corpus, quantize, options, target, again, pool, &rest);
  EXPECT_EQ(rest.n_known, part.n_measured);
  EXPECT_TRUE(rest.is_stable);
  // The same as in one go.
  options.costs_path.clear();
  PlanCosts fresh = plan_costs(model, corpus, quantize, options, pool);
  EXPECT_EQ(refine_plan(model, corpus, quantize, options, target, fresh, pool).types, resumed.types);
  // No time: nothing is measured, what is known is used.
  options.costs_path = path.string();
  options.measure.seconds = 0;
  PlanCosts known = plan_costs(model, corpus, quantize, options, pool);
  EXPECT_EQ(refine_plan(model, corpus, quantize, options, target, known, pool, &none).types, resumed.types);
  EXPECT_EQ(none.n_measured, 0u);
  EXPECT_EQ(none.n_known, part.n_measured + rest.n_measured);
}

TEST_F(Planning, CalibratedRoundingIsMeasuredAsItIs) {
  Corpus probes = corpus;
  probes.chunks.resize(8);
  options.calibrated = true;
  quantize.corpus = &corpus;
  PlanCosts costs = plan_costs(model, probes, quantize, options, pool);
  Refinement r;
  refine_plan(model, probes, quantize, options, target_at(0.05, costs, options), costs, pool, &r);
  EXPECT_GT(r.n_measured, 0u);
  // A linear in four bits, rounded with feedback, harms less than by search: by predictions and as measured.
  HarmMeter meter(model, probes.chunks, pool);
  double calibrated = 0, search = 0;
  for (const TensorCosts& t : costs.tensors)
    for (const TypeCost& c : t.types)
      if (!c.windows.empty() && c.type->name == "Q4_0") {
        const std::vector<std::byte> bytes = encode_tensor(*t.sensitivity.tensor, *c.type, nullptr, pool);
        const ModelTensor rounded(t.sensitivity.tensor->spec(), *c.type, bytes);
        const Replacement replacement = &rounded;
        search += meter.measure({&replacement, 1}).kld;
        for (double w : c.windows) calibrated += w / static_cast<double>(c.windows.size());
      }
  EXPECT_GT(search, 0);
  EXPECT_LT(calibrated, search);
}

Json without_clock(Json costs) {
  for (const char* key : {"seconds", "sensitivity_seconds"}) costs.erase(key);
  return costs;
}

TEST_F(Planning, MeasuredTheSameForAnyNumberOfThreads) {
  ThreadPool one(1);
  for (const bool calibrated : {false, true}) {
    options.calibrated = calibrated;
    quantize.corpus = calibrated ? &corpus : nullptr;
    Corpus probes = corpus;
    probes.chunks.resize(8);
    PlanCosts a = plan_costs(model, probes, quantize, options, pool), b = plan_costs(model, probes, quantize, options, one);
    const PlanTarget target = target_at(0.4, a, options);
    EXPECT_EQ(refine_plan(model, probes, quantize, options, target, a, pool).types,
              refine_plan(model, probes, quantize, options, target, b, one).types);
    EXPECT_EQ(without_clock(to_json(a)), without_clock(to_json(b)));
  }
}

TEST_F(Planning, TheSameForAnyNumberOfThreads) {
  ThreadPool one(1);
  EXPECT_EQ(without_clock(to_json(plan_costs(model, corpus, quantize, options, pool))),
            without_clock(to_json(plan_costs(model, corpus, quantize, options, one))));
}

}  // namespace
}  // namespace tsubu
