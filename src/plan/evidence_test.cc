#include "plan/evidence.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/draws.h"

namespace tsubu {
namespace {

constexpr CostModel kPrior = {0, 0.3, 0.1};

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

TEST(Evidence, WithoutMeasurementsPredictionsStand) {
  const std::vector<CostEvidence> evidence{{0, 2, {}}, {0, 0, {}}, {1, 5, {}}};
  const auto costs = combine_costs(evidence, kPrior);
  EXPECT_DOUBLE_EQ(costs[0].cost, 2);
  EXPECT_DOUBLE_EQ(costs[2].cost, 5);
  EXPECT_DOUBLE_EQ(costs[0].spread, std::hypot(0.3, 0.1));
  EXPECT_EQ(costs[1].cost, 0);
  EXPECT_EQ(costs[1].spread, 0);
}

TEST(Evidence, WindowsThatAgreeAreBelieved) {
  // Every window says the same of every choice, up to its own level: no noise between choices.
  std::vector<CostEvidence> evidence;
  const double level[] = {1, 3, 0.5, 2};
  for (size_t c = 0; c < 6; ++c)
    for (size_t i = 0; i < 3; ++i) {
      CostEvidence e{c, 1, {}};
      for (double l : level) e.windows.push_back(l * (1 + static_cast<double>(c)) * (1 + 0.1 * static_cast<double>(i)));
      evidence.push_back(e);
    }
  const auto costs = combine_costs(evidence, kPrior);
  for (size_t i = 0; i < evidence.size(); ++i) {
    EXPECT_NEAR(costs[i].cost / mean_of(evidence[i].windows), 1, 1e-6);
    EXPECT_LT(costs[i].spread, 1e-3);
  }
}

TEST(Evidence, WhatWasNotMeasuredFollowsItsClass) {
  std::vector<CostEvidence> evidence;
  for (size_t c = 0; c < 8; ++c) {
    const double off = c % 2 == 0 ? 2 : 0.5;
    for (size_t i = 0; i < 4; ++i) {
      CostEvidence e{c, 1 + static_cast<double>(i), {}};
      if (i < 3)
        for (double l : {1.0, 1.2, 0.8}) e.windows.push_back(l * off * e.predicted);
      evidence.push_back(e);
    }
  }
  evidence.push_back({8, 7, {}});
  CostModel model;
  const auto costs = combine_costs(evidence, kPrior, &model);
  EXPECT_NEAR(costs[3].cost, 8, 0.05);   // class 0 costs twice what was predicted
  EXPECT_NEAR(costs[7].cost, 2, 0.02);
  EXPECT_NEAR(costs.back().cost, 7, 0.1);  // of no class that was measured: the level, which is 1 here
  EXPECT_GT(costs.back().spread, costs[3].spread);
  EXPECT_NEAR(model.between, std::log(2) * std::sqrt(8.0 / 7), 1e-6);
}

TEST(Evidence, BetterThanPredictionsAndThanMeasurementsAlone) {
  double predicted = 0, measured = 0, combined = 0;
  size_t covered = 0, n = 0;
  for (uint64_t run = 0; run < 20; ++run) {
    RowDraws draws(run, 1, 0);
    std::vector<CostEvidence> evidence;
    std::vector<double> truth;
    std::vector<double> windows(12);
    for (double& w : windows) w = std::exp(0.5 * draws.normal());
    for (size_t c = 0; c < 25; ++c) {
      const double u = 0.25 * draws.normal();
      std::vector<double> own(windows.size());
      for (double& o : own) o = 0.8 * draws.normal();
      for (size_t i = 0; i < 4; ++i) {
        CostEvidence e{c, std::exp(draws.normal()), {}};
        truth.push_back(std::log(e.predicted) + 0.1 + u + 0.1 * draws.normal());
        for (size_t w = 0; w < windows.size(); ++w)
          e.windows.push_back(std::exp(truth.back()) * windows[w] * std::max(0.05, 1 + own[w] + 0.4 * draws.normal()));
        evidence.push_back(e);
      }
    }
    const auto costs = combine_costs(evidence, kPrior);
    // The level is known up to one factor only, and the plan does not depend on it.
    double offset = 0, level = 0;
    for (size_t i = 0; i < truth.size(); ++i) {
      offset += (std::log(costs[i].cost) - truth[i]) / static_cast<double>(truth.size());
      level += (std::log(mean_of(evidence[i].windows)) - truth[i]) / static_cast<double>(truth.size());
    }
    for (size_t i = 0; i < truth.size(); ++i) {
      const double off = std::log(costs[i].cost) - truth[i] - offset;
      predicted += std::pow(std::log(evidence[i].predicted) + 0.1 - truth[i], 2);
      measured += std::pow(std::log(mean_of(evidence[i].windows)) - truth[i] - level, 2);
      combined += off * off;
      covered += std::abs(off) < 1.96 * costs[i].spread ? 1 : 0;
      ++n;
    }
  }
  EXPECT_LT(combined, 0.9 * measured);
  EXPECT_LT(combined, 0.7 * predicted);
  const double share = static_cast<double>(covered) / static_cast<double>(n);
  EXPECT_GT(share, 0.88);
  EXPECT_LT(share, 0.99);
}

}  // namespace
}  // namespace tsubu
