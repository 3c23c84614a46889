#include "plan/evidence.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace tsubu {
namespace {

// Fewer classes (choices beyond the first of their classes) than this do not say how much they scatter.
constexpr size_t kLeast = 4;
// Predictions that agree by chance do not make the next one certain: spreads are at least this share of the prior's.
constexpr double kLeastShare = 0.25;
constexpr double kLeastVariance = 1e-12;

double mean_of(std::span<const double> values) {
  double sum = 0;
  for (double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

// x_w / Σ x.
std::vector<double> influences(std::span<const double> windows) {
  const double sum = mean_of(windows) * static_cast<double>(windows.size());
  std::vector<double> result;
  for (double x : windows) result.push_back(sum > 0 ? x / sum : 1 / static_cast<double>(windows.size()));
  return result;
}

// Variance of the difference of two ln of means.
double difference_variance(std::span<const double> a, std::span<const double> b) {
  const auto n = static_cast<double>(a.size());
  if (n < 2) return 0;
  double squares = 0;
  for (size_t w = 0; w < a.size(); ++w) squares += (a[w] - b[w]) * (a[w] - b[w]);
  return n / (n - 1) * squares;
}

struct Class {
  std::vector<size_t> measured;               // of the evidence
  std::vector<double> ratios;                 // ln measured / predicted
  std::vector<std::vector<double>> influence;
  std::vector<double> common;                 // mean influence of its choices
  std::vector<double> alone;                  // variance of each ratio against the class's mean that its windows make
  double mean = 0;                            // of ratios
  double noise = 0;                           // variance of the mean that the class's windows make
};

bool is_measured(const CostEvidence& e) { return e.predicted > 0 && !e.windows.empty() && mean_of(e.windows) > 0; }

}  // namespace

std::vector<CostEstimate> combine_costs(std::span<const CostEvidence> evidence, const CostModel& prior, CostModel* model) {
  std::map<size_t, Class> classes;
  std::vector<double> everything;  // summed influence of all classes: the model's windows, each class counting alike
  for (size_t i = 0; i < evidence.size(); ++i) {
    if (!is_measured(evidence[i])) continue;
    Class& c = classes[evidence[i].cls];
    c.measured.push_back(i);
    c.ratios.push_back(std::log(mean_of(evidence[i].windows) / evidence[i].predicted));
    c.influence.push_back(influences(evidence[i].windows));
  }
  for (auto& [id, c] : classes) {
    c.mean = mean_of(c.ratios);
    c.common.assign(c.influence.front().size(), 0);
    for (const auto& influence : c.influence)
      for (size_t w = 0; w < influence.size(); ++w) c.common[w] += influence[w] / static_cast<double>(c.influence.size());
    everything.resize(c.common.size());
    for (size_t w = 0; w < c.common.size(); ++w) everything[w] += c.common[w] / static_cast<double>(classes.size());
  }
  // Within classes: scatter about their means, without what noise makes of it.
  double scatter = 0, noise = 0, freedom = 0;
  for (auto& [id, c] : classes) {
    c.noise = difference_variance(c.common, everything);
    for (const auto& influence : c.influence) c.alone.push_back(difference_variance(influence, c.common));
    if (c.ratios.size() < 2) continue;
    const auto n = static_cast<double>(c.ratios.size());
    freedom += n - 1;
    for (size_t k = 0; k < c.ratios.size(); ++k) {
      scatter += (c.ratios[k] - c.mean) * (c.ratios[k] - c.mean);
      noise += c.alone[k];
    }
  }
  CostModel found = prior;
  if (freedom >= static_cast<double>(kLeast))
    found.within = std::sqrt(std::max(scatter - noise, 0.0) / freedom);
  found.within = std::max(found.within, kLeastShare * prior.within);
  // Between classes.
  if (!classes.empty()) {
    double sum = 0, squares = 0, expected = 0;
    for (const auto& [id, c] : classes) sum += c.mean;
    found.level = sum / static_cast<double>(classes.size());
    for (const auto& [id, c] : classes) {
      squares += (c.mean - found.level) * (c.mean - found.level);
      expected += c.noise + found.within * found.within / static_cast<double>(c.ratios.size());
    }
    const auto n = static_cast<double>(classes.size());
    if (classes.size() >= kLeast)
      found.between = std::sqrt(std::max(squares / (n - 1) - expected / n, 0.0));
    found.between = std::max(found.between, kLeastShare * prior.between);
  }
  if (model) *model = found;

  const double between = found.between * found.between, within = found.within * found.within;
  std::vector<CostEstimate> result(evidence.size());
  for (size_t i = 0; i < evidence.size(); ++i) {
    const CostEvidence& e = evidence[i];
    if (e.predicted <= 0) continue;
    double shift = found.level, variance = between + within;
    if (const auto it = classes.find(e.cls); it != classes.end()) {
      const Class& c = it->second;
      const auto at = std::find(c.measured.begin(), c.measured.end(), i);
      const size_t own = static_cast<size_t>(at - c.measured.begin());
      // The mean given normal observations: their covariance is a diagonal and one constant, (s_u² + shared noise) 11ᵀ.
      const double shared = between + c.noise;
      double ones = 0, ratios = 0, gains = 0, gains_ratios = 0, gains_gains = 0;  // 1ᵀD⁻¹1, 1ᵀD⁻¹y, gᵀD⁻¹1, gᵀD⁻¹y, gᵀD⁻¹g
      for (size_t k = 0; k < c.measured.size(); ++k) {
        const double d = 1 / std::max(within + c.alone[k], kLeastVariance), y = c.ratios[k] - found.level;
        const double gain = between + (k == own ? within : 0);
        ones += d;
        ratios += d * y;
        gains += d * gain;
        gains_ratios += d * gain * y;
        gains_gains += d * gain * gain;
      }
      const double joint = shared / (1 + shared * ones);
      shift += gains_ratios - joint * gains * ratios;
      variance -= gains_gains - joint * gains * gains;
    }
    result[i] = {e.predicted * std::exp(shift), std::sqrt(std::max(variance, 0.0))};
  }
  return result;
}

}  // namespace tsubu
