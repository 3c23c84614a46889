#include "evaluate/certify.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "base/error.h"
#include "evaluate/certify_gates.h"

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
  c.error = "logits are not finite";
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
  d.finding = "holds another";
  c.weights->tensors.push_back(d);
  const CertifyResult r = judged(c, {});
  EXPECT_FALSE(r.pass());
  EXPECT_EQ(r.gates[0].name, "weights");
  EXPECT_NE(r.gates[0].detail.find("blk.0.ffn_up.weight: holds another"), std::string::npos);
  c.weights->comparable = false;  // a transformed model's weights are not the base's
  EXPECT_TRUE(judged(c, {}).pass());
}

}  // namespace
}  // namespace tsubu
