#include "evaluate/certify.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <optional>
#include <set>

#include "base/error.h"
#include "evaluate/certify_gates.h"
#include "evaluate/certify_stability.h"

namespace tsubu {
namespace {

TEST(Gates, AreNamedOnceAndStandUnderTheirNames) {
  std::set<std::string_view> names, options;
  for (const GateKind& k : gate_kinds()) {
    EXPECT_TRUE(names.insert(k.name).second) << k.name;
    if (!k.option.empty()) EXPECT_TRUE(options.insert(k.option).second) << k.option;
    EXPECT_EQ(k.option.empty(), k.default_limit.has_value()) << k.name;
    EXPECT_EQ(k.is_minimum, k.name.starts_with("min_")) << k.name;
  }
}

CandidateResult measured(double kld, double high) {
  CandidateResult c;
  c.path = "c";
  c.by_text.resize(1);
  c.divergence.mean = kld;
  c.divergence.mean_ci95 = {kld - (high - kld), high};
  c.divergence.top1_agreement = 0.9;
  c.divergence.top1_ci95 = {0.88, 0.92};
  return c;
}

CertifyResult judged(const CandidateResult& candidate, std::map<std::string, double> limits) {
  CertifyResult r;
  r.options.limits = std::move(limits);
  r.candidates.push_back(candidate);
  judge(r);
  return r;
}

// A value below its limit whose interval reaches beyond it has not been shown to keep to it.
TEST(Gates, CompareTheUnfavorableEndOfTheInterval) {
  EXPECT_TRUE(judged(measured(0.04, 0.045), {{"max_kld", 0.05}}).pass());
  EXPECT_FALSE(judged(measured(0.049, 0.055), {{"max_kld", 0.05}}).pass());
  EXPECT_TRUE(judged(measured(0.04, 0.045), {{"min_top1", 0.88}}).pass());
  EXPECT_FALSE(judged(measured(0.04, 0.045), {{"min_top1", 0.89}}).pass());
}

TEST(Gates, SayHowLikelyTheLimitIsBroken) {
  const CertifyResult r = judged(measured(0.05, 0.06), {{"max_kld", 0.05}, {"min_top1", 0.92}});
  EXPECT_NEAR(r.gates[0].p_break, 0.5, 1e-12);
  EXPECT_NEAR(r.gates[1].p_break, 0.975, 1e-4);  // the limit is the other end of the interval
}

TEST(Gates, WhatCouldNotBeMeasuredFails) {
  CandidateResult c = measured(0, 0);
  c.error.text = "logits are not finite";
  const CertifyResult r = judged(c, {{"max_kld", 1}});
  EXPECT_FALSE(r.pass());
  EXPECT_FALSE(r.pass("c"));
  EXPECT_TRUE(r.pass("other"));
  EXPECT_TRUE(to_json(r)["gates"][0]["value"].is_null());
}

TEST(Gates, ALimitNeedsItsMeasurement) {
  CertifyOptions o;
  o.texts = {"t"};
  check_limits(o);
  o.limits["max_flips"] = 0.1;
  EXPECT_THROW(check_limits(o), Error);
  o.tasks = {"q"};
  check_limits(o);
  o.limits["min_speedup"] = 1;
  EXPECT_THROW(check_limits(o), Error);
  EXPECT_THROW(check_limits(CertifyOptions{}), Error);
}

TEST(Gates, WeightsAndSettingsCountWithoutBeingAsked) {
  CandidateResult c = measured(0.01, 0.02);
  c.weights.emplace();
  EXPECT_TRUE(judged(c, {}).pass());
  TensorDifference d;
  d.name = "blk.0.ffn_up.weight";
  d.finding.text = "holds another";
  c.weights->tensors.push_back(d);
  const CertifyResult r = judged(c, {});
  EXPECT_FALSE(r.pass());
  EXPECT_EQ(r.gates[0].name, "weights");
  EXPECT_EQ(joined(r.gates[0].reasons, "; "), "blk.0.ffn_up.weight: holds another");
  c.weights->comparable = false;  // a transformed model's weights are not the base's
  EXPECT_TRUE(judged(c, {}).pass());
}

// Two chunks of three scores, one question and one prompt, all of them computed twice.
struct Twice {
  std::optional<TextRun> texts{std::in_place};
  CertifyResult r = judged(measured(0.01, 0.02), {{"max_kld", 0.05}});
  Rerun again;

  Twice() {
    texts->protocol = {.context = 8, .first = 4};
    texts->chunks.text_of = {0, 0};
    texts->chunks.first_token = {0, 8};
    texts->all.errors.resize(1);
    for (int chunk = 0; chunk < 2; ++chunk) {
      std::vector<TokenScore> scores(3);
      for (size_t i = 0; i < 3; ++i)
        scores[i] = {1.5f, 1.4f, 0.01f + 0.001f * static_cast<float>(i), 0.5f, 0.6f, 7, 7};
      texts->all.scores.resize(1);
      texts->all.blocks.resize(1);
      texts->all.scores[0].insert(texts->all.scores[0].end(), scores.begin(), scores.end());
      texts->all.blocks[0].push_back(sums_of(scores));
    }
    r.options.eval.n_bootstrap = 50;
    r.texts.push_back({"t", "", 1, 16, 2});
    Task task;
    task.items = {{{{"a", " b"}, {"a", " c"}}, 0, "", "a"}};
    r.tasks = {task};
    TaskScores scores;
    scores.items = {{{{-1.25, 1, 2, true}, {-2.5, 1, 2, false}}, true, true, 0}};
    r.base_tasks = r.candidates[0].task_scores = {scores};
    Generation text;
    text.tokens = {1, 2, 3};
    r.base_generations = r.candidates[0].generations = {text};
    again.n_threads = 1;
    again.n_threads_again = 2;
    again.texts = texts->all;
    again.texts.scores[0].resize(n_chunks_again(2) * 3);
    again.texts.blocks[0].resize(n_chunks_again(2));
    again.base_tasks = r.base_tasks;
    again.tasks = {r.candidates[0].task_scores};
    again.base_generations = r.base_generations;
    again.generations = {r.candidates[0].generations};
  }
};

TEST(Stability, TheSameNumbersAreTheSame) {
  Twice run;
  judge_threads(run.again, run.texts, run.r);
  const ThreadCheck& t = run.r.by_threads;
  EXPECT_EQ(t.n_chunks, 1u);
  EXPECT_EQ(t.n_questions, 1u);
  EXPECT_EQ(t.n_prompts, 1u);
  EXPECT_EQ(t.n_compared, 3u + 2 * 2 + 2 * 3);
  EXPECT_EQ(t.n_differ, 0u);
  EXPECT_TRUE(t.same_verdict);
}

TEST(Stability, OneBitElsewhereIsFound) {
  const std::vector<std::function<void(Rerun&)>> changes = {
      [](Rerun& a) { a.texts.scores[0][1].kld = std::nextafter(a.texts.scores[0][1].kld, 1.0f); },
      [](Rerun& a) { a.texts.scores[0][2].base_top = 8; },
      [](Rerun& a) { a.base_tasks[0].items[0].choices[1].log_likelihood = std::nextafter(-2.5, 0); },
      [](Rerun& a) { a.tasks[0][0].items[0].choices[0].is_greedy = false; },
      [](Rerun& a) { a.generations[0][0].tokens.push_back(4); },
      [](Rerun& a) { a.base_generations[0].tokens[1] = 9; },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    Twice run;
    changes[i](run.again);
    judge_threads(run.again, run.texts, run.r);
    EXPECT_EQ(run.r.by_threads.n_differ, 1u) << i;
    EXPECT_TRUE(run.r.by_threads.same_verdict) << i;
  }
}

TEST(Stability, AnotherVerdictIsSaid) {
  Twice run;
  for (TokenScore& s : run.again.texts.scores[0]) s.kld = 1;
  run.again.texts.blocks[0][0] = sums_of(run.again.texts.scores[0]);
  judge_threads(run.again, run.texts, run.r);
  EXPECT_EQ(run.r.by_threads.n_differ, 3u);
  EXPECT_FALSE(run.r.by_threads.same_verdict);
  EXPECT_FALSE(to_json(run.r)["stability"]["threads"]["same_verdict"].get<bool>());
}

TEST(Stability, AShareOfTheWorkIsDoneAgain) {
  EXPECT_EQ(n_chunks_again(0), 0u);
  EXPECT_EQ(n_chunks_again(1), 1u);
  EXPECT_EQ(n_chunks_again(33), 2u);
  EXPECT_EQ(n_chunks_again(1000), 4u);
}

}  // namespace
}  // namespace tsubu
