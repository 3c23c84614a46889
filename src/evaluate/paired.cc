#include "evaluate/paired.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tsubu {
namespace {

double share(uint64_t k, uint64_t n) { return n == 0 ? 0 : static_cast<double>(k) / static_cast<double>(n); }

}  // namespace

void PairedCounts::add(bool base_right, bool candidate_right) {
  ++(base_right ? (candidate_right ? both : lost) : (candidate_right ? gained : neither));
}
double PairedCounts::base_share() const { return share(both + lost, n()); }
double PairedCounts::candidate_share() const { return share(both + gained, n()); }
double PairedCounts::flips() const { return share(lost + gained, n()); }

double mcnemar_exact(uint64_t lost, uint64_t gained) {
  const uint64_t n = lost + gained, k = std::min(lost, gained);
  if (n == 0) return 1;
  const auto m = static_cast<double>(n);
  double tail = 0;  // of the smaller side, from its largest term down
  for (uint64_t i = k + 1; i-- > 0;) {
    const auto x = static_cast<double>(i);
    const double term = std::exp(std::lgamma(m + 1) - std::lgamma(x + 1) - std::lgamma(m - x + 1) - m * std::log(2.0));
    tail += term;
    if (term < tail * 1e-17) break;
  }
  return std::min(1.0, 2 * tail);
}

double tango_score(const PairedCounts& counts, double difference) {
  const auto n = static_cast<double>(counts.n()), gained = static_cast<double>(counts.gained),
             lost = static_cast<double>(counts.lost);
  if (n == 0) return 0;
  // Largest likelihood of the share of lost questions when the difference is given: the larger root of
  // a q² + b q + c = 0.
  const double a = 2 * n, b = -gained - lost + (2 * n - gained + lost) * difference,
               c = -lost * difference * (1 - difference);
  const double q = (std::sqrt(std::max(0.0, b * b - 4 * a * c)) - b) / (2 * a);
  const double variance = n * (2 * q + difference * (1 - difference));
  const double distance = gained - lost - n * difference;
  if (variance <= 0) return distance == 0 ? 0 : std::copysign(INFINITY, distance);
  return distance / std::sqrt(variance);
}

Interval paired_interval(const PairedCounts& counts, double level) {
  if (counts.n() == 0) return {};
  const double z = normal_quantile(0.5 + level / 2), middle = counts.difference();
  // The score falls as the difference grows.
  const auto boundary = [&](double inside, double outside, double target) {
    for (int i = 0; i < 60; ++i) {
      const double at = (inside + outside) / 2;
      (std::abs(tango_score(counts, at)) < target ? inside : outside) = at;
    }
    return inside;
  };
  return {boundary(middle, -1, z), boundary(middle, 1, z)};
}

double non_inferiority_p(const PairedCounts& counts, double margin) {
  return 1 - normal_cdf(tango_score(counts, -margin));
}

double minimum_detectable_effect(uint64_t n, double flips, double alpha, double power) {
  if (n == 0) return 1;
  const double z = normal_quantile(1 - alpha / 2) + normal_quantile(power);
  return std::min(1.0, z * std::sqrt(flips / static_cast<double>(n)));
}

std::vector<double> holm(std::span<const double> p) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] < p[b]; });
  std::vector<double> adjusted(p.size());
  double largest = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    largest = std::max(largest, std::min(1.0, static_cast<double>(order.size() - i) * p[order[i]]));
    adjusted[order[i]] = largest;
  }
  return adjusted;
}

double normal_cdf(double z) { return std::erfc(-z / std::sqrt(2.0)) / 2; }

double normal_quantile(double p) {
  double low = -40, high = 40;
  for (int i = 0; i < 200 && low < high; ++i) {
    const double at = (low + high) / 2;
    (normal_cdf(at) < p ? low : high) = at;
  }
  return (low + high) / 2;
}

}  // namespace tsubu
