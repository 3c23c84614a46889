#include "pipeline/expert_grams.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/error.h"
#include "engine/engine.h"
#include "engine/random_model.h"
#include "pipeline/calibrated_experts.h"
#include "pipeline/kept_stream.h"

namespace tsubu {
namespace {

constexpr size_t kChunks = 40, kContext = 16, kPeriod = 8;

RandomModelOptions mixture() {
  RandomModelOptions o;
  o.n_experts = 5;
  o.n_ff = 32;
  return o;
}

// Inputs of a group of experts, from the model's own stream; some experts can be starved.
class Inputs {
 public:
  explicit Inputs(ThreadPool& pool, const char* weight) : model_(mixture()) {
    corpus_.context = kContext;
    for (uint32_t c = 0; c < kChunks; ++c) corpus_.chunks.push_back(random_tokens(kContext, 50, c));
    stream_ = std::make_unique<KeptStream>(model_, corpus_, Products::kF32, pool);
    const Graph& graph = model_.graph();
    for (size_t i = 0; i < graph.ops.size() && !op_; ++i)
      if (graph.ops[i].weight == weight) {
        op_ = &graph.ops[i];
        step_ = i;
      }
  }
  ExpertInput input(size_t held_period = kPeriod) {
    ExpertInput in = expert_input(model_.graph(), *op_);
    in.n_chunks = kChunks;
    in.n_tokens = kContext;
    in.held_period = held_period;
    in.read = [this](size_t chunk) {
      ++n_reads_;
      stream_->advance(chunk, 0, step_, {op_->inputs[0], op_->inputs[1]}, values_);
      return ExpertInput::Values{values_.at(op_->inputs[0]).data(), values_.at(op_->inputs[1]).data()};
    };
    return in;
  }
  // Σ of g² x xᵀ over the tokens of an expert, and how many they are; of all experts where expert is -1.
  std::vector<double> sum(int expert, bool held, uint64_t& n_tokens) {
    const ExpertInput in = input();
    const size_t n = in.n_cols, used = op_->n_used;
    std::vector<double> gram(n * n);
    n_tokens = 0;
    for (size_t c = 0; c < kChunks; ++c) {
      if ((c % kPeriod == kPeriod - 1) != held) continue;
      const auto v = in.read(c);
      for (size_t t = 0; t < kContext; ++t)
        for (size_t s = 0; s < used; ++s) {
          if (expert >= 0 && static_cast<int>(v.route[t * 2 * used + s]) != expert) continue;
          ++n_tokens;
          const auto g = static_cast<double>(v.route[t * 2 * used + used + s]);
          const float* x = v.x + (op_->by_slots ? (t * used + s) * n : t * n);
          for (size_t i = 0; i < n * n; ++i) gram[i] += g * g * static_cast<double>(x[i / n]) * static_cast<double>(x[i % n]);
        }
    }
    return gram;
  }
  size_t n_reads() const { return n_reads_; }
  const RandomModel& model() const { return model_; }

 private:
  RandomModel model_;
  Corpus corpus_;
  std::unique_ptr<KeptStream> stream_;
  const Op* op_ = nullptr;
  size_t step_ = 0, n_reads_ = 0;
  std::map<ValueId, std::vector<float>> values_;
};

TEST(ExpertGrams, AreMixturesOfTheTokensOfOneAndOfAll) {
  ThreadPool pool(2);
  Inputs inputs(pool, "blk.1.ffn_gate_exps.weight");
  ExpertGrams grams(inputs.input(), {}, pool);
  uint64_t n_all = 0, n_own = 0, n_held = 0;
  const std::vector<double> all = inputs.sum(-1, false, n_all);
  const size_t n = grams.n_cols();
  for (int e = 0; e < 5; ++e) {
    const std::vector<double> own = inputs.sum(e, false, n_own);
    inputs.sum(e, true, n_held);
    const ExpertGram g = grams.take(static_cast<size_t>(e));
    EXPECT_EQ(g.n_tokens, n_own);
    EXPECT_EQ(g.n_held, n_held);
    EXPECT_EQ(grams.n_tokens(static_cast<size_t>(e)), n_own);
    EXPECT_EQ(g.held.size(), n * n);
    EXPECT_GT(g.shrinkage, 0);
    EXPECT_LT(g.shrinkage, 1);
    // (1 - ρ) S + ρ c T with one c for all elements.
    double c = 0;
    for (size_t i = 0; i < n * n; ++i) {
      const double s = own[i] / static_cast<double>(n_own), t = all[i] / static_cast<double>(n_all);
      const double rest = static_cast<double>(g.learned[i]) - (1 - g.shrinkage) * s;
      if (i == 0) c = rest / t;
      EXPECT_NEAR(rest, c * t, 1e-4) << i;
    }
    EXPECT_NEAR(c, g.shrinkage, 0.5);
  }
}

TEST(ExpertGrams, OfValuesOfTheirOwnKeepTheirDiagonal) {
  ThreadPool pool(2);
  Inputs inputs(pool, "blk.0.ffn_down_exps.weight");
  ExpertGrams grams(inputs.input(), {}, pool);
  const size_t n = grams.n_cols();
  for (int e = 0; e < 5; ++e) {
    uint64_t n_own = 0;
    const std::vector<double> own = inputs.sum(e, false, n_own);
    const ExpertGram g = grams.take(static_cast<size_t>(e));
    const std::vector<float> squares = grams.mean_squares(static_cast<size_t>(e));
    for (size_t i = 0; i < n * n; ++i) {
      const double mean = own[i] / static_cast<double>(n_own), want = i / n == i % n ? mean : (1 - g.shrinkage) * mean;
      EXPECT_NEAR(static_cast<double>(g.learned[i]), want, 1e-5);
      if (i / n == i % n) {
        EXPECT_NEAR(static_cast<double>(squares[i / n]), mean, 1e-5);
      }
    }
  }
}

TEST(ExpertGrams, NeitherTheMemoryNorTheThreadsMatter) {
  for (const char* weight : {"blk.0.ffn_gate_exps.weight", "blk.0.ffn_down_exps.weight"}) {
    ThreadPool one(1), three(3);
    Inputs a(one, weight), b(three, weight);
    ExpertGrams all(a.input(), {}, one);
    ExpertGrams by_one(b.input(), {.memory = all.least_bytes()}, three);
    for (size_t e = 0; e < 5; ++e) {
      const ExpertGram x = all.take(e), y = by_one.take(e);
      EXPECT_TRUE(x.learned == y.learned);
      EXPECT_TRUE(x.held == y.held);
    }
    EXPECT_EQ(a.n_reads(), 2 * kChunks);
    EXPECT_EQ(b.n_reads(), 6 * kChunks);
    ExpertGrams none(b.input(), {.memory = all.least_bytes() - 1}, three);
    EXPECT_FALSE(none.fits());
    EXPECT_TRUE(none.mean_squares(0) == all.mean_squares(0));
  }
}

// A router that sends nothing to the last expert.
TEST(ExpertGrams, WithoutTokensThePoolOrNothing) {
  ThreadPool pool(2);
  for (const char* weight : {"blk.0.ffn_gate_exps.weight", "blk.0.ffn_down_exps.weight"}) {
    Inputs inputs(pool, weight);
    ExpertInput in = inputs.input(0);
    std::vector<float> route;
    in.read = [read = in.read, &route](size_t chunk) {
      auto v = read(chunk);
      route.assign(v.route, v.route + kContext * 4);
      for (size_t t = 0; t < kContext; ++t)
        for (size_t s = 0; s < 2; ++s)
          if (route[t * 4 + s] == 4) route[t * 4 + s] = 3;
      v.route = route.data();
      return v;
    };
    ExpertGrams grams(std::move(in), {}, pool);
    const ExpertGram g = grams.take(4);
    EXPECT_EQ(g.n_tokens, 0u);
    EXPECT_EQ(g.learned.empty(), std::string(weight).find("down") != std::string::npos);
    EXPECT_TRUE(g.held.empty());
    EXPECT_EQ(grams.mean_squares(4), std::vector<float>(grams.n_cols(), 1.0f));
  }
}

TEST(RoundExperts, KeepsWhatTheHeldOutTokensLike) {
  ThreadPool pool(2);
  Inputs inputs(pool, "blk.0.ffn_gate_exps.weight");
  std::vector<PlannedTensor> plan(2);
  std::vector<const PlannedTensor*> tensors;
  for (size_t i = 0; i < 2; ++i) {
    plan[i].tensor = &inputs.model().tensor(i == 0 ? "blk.0.ffn_gate_exps.weight" : "blk.0.ffn_up_exps.weight");
    plan[i].type = plan[i].wanted = &type_named("Q4_0");
    plan[i].size_bytes = tensor_bytes(*plan[i].type, plan[i].tensor->n_rows(), plan[i].tensor->n_cols());
    tensors.push_back(&plan[i]);
  }
  ExpertGrams grams(inputs.input(), {}, pool);
  const std::vector<RoundedExperts> rounded = round_experts(tensors, grams, {}, "gptq+descent", pool);
  for (const RoundedExperts& r : rounded) {
    EXPECT_EQ(r.method, "gptq+descent");
    EXPECT_EQ(r.n_methods + r.n_searched, 5u);
    EXPECT_LE(r.error, r.search_error);
    EXPECT_LT(r.error, 0.95 * r.search_error);
  }
  CalibratedOptions off;
  off.expert_feedback = false;
  ExpertGrams again(inputs.input(), {}, pool);
  const std::vector<RoundedExperts> searched = round_experts(tensors, again, off, "gptq+descent", pool);
  EXPECT_EQ(searched.front().method, "search");
  EXPECT_EQ(searched.front().n_searched, 5u);
  EXPECT_NE(searched.front().bytes, rounded.front().bytes);
}

}  // namespace
}  // namespace tsubu
