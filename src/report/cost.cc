#include "report/cost.h"

namespace tsubu {
namespace {

constexpr double kMillion = 1e6, kSecondsPerHour = 3600, kJoulesPerKwh = 3.6e6;
constexpr double kSecondsPerMonth = 365.25 / 12 * 24 * kSecondsPerHour;

}  // namespace

Cost cost_of(const Prices& prices, double tokens_per_second, double joules) {
  Cost cost;
  cost.per_million = prices.machine_hour.value_or(0) * kMillion / tokens_per_second / kSecondsPerHour;
  if (joules > 0) cost.per_million += prices.kwh.value_or(0) * joules * kMillion / kJoulesPerKwh;
  if (prices.tokens_per_month) {
    cost.per_month = cost.per_million * *prices.tokens_per_month / kMillion;
    cost.machines = *prices.tokens_per_month / tokens_per_second / kSecondsPerMonth;
  }
  return cost;
}

std::optional<double> break_even_tokens(const Prices& prices, const Cost& base, const Cost& candidate) {
  const double saved = (base.per_million - candidate.per_million) / kMillion;
  if (saved <= 0) return {};
  return prices.once / saved;
}

}  // namespace tsubu
