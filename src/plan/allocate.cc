#include "plan/allocate.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>

namespace tsubu {
namespace {

// Sums of costs come in different orders; what differs by less is equal.
constexpr double kRelativeSlack = 1e-12;

// A choice of a class on its lower convex hull.
struct HullPoint {
  size_t choice;
  double weight, cost;
};

// The hull's points by rising weight and falling cost, slopes rising to zero.
std::vector<HullPoint> hull_of(const std::vector<AllocationChoice>& choices) {
  std::vector<size_t> order(choices.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return choices[a].weight != choices[b].weight ? choices[a].weight < choices[b].weight
                                                  : choices[a].cost < choices[b].cost;
  });
  std::vector<HullPoint> hull;
  for (size_t i : order) {
    const HullPoint p{i, choices[i].weight, choices[i].cost};
    if (!hull.empty() && p.cost >= hull.back().cost) continue;
    while (hull.size() >= 2) {
      const HullPoint &a = hull[hull.size() - 2], &b = hull.back();
      if ((b.cost - a.cost) * (p.weight - b.weight) < (p.cost - b.cost) * (b.weight - a.weight)) break;
      hull.pop_back();
    }
    hull.push_back(p);
  }
  return hull;
}

// A step from one hull point of a class to the next.
struct Step {
  size_t cls, to;
  double weight, cost;  // changes: weight > 0, cost < 0
  double slope() const { return cost / weight; }
};

std::vector<Step> steps_of(const std::vector<std::vector<HullPoint>>& hulls, size_t first_class) {
  std::vector<Step> steps;
  for (size_t c = first_class; c < hulls.size(); ++c)
    for (size_t i = 1; i < hulls[c].size(); ++i)
      steps.push_back({c, i, hulls[c][i].weight - hulls[c][i - 1].weight, hulls[c][i].cost - hulls[c][i - 1].cost});
  std::stable_sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) { return a.slope() < b.slope(); });
  return steps;
}

// The linear relaxation of the classes from one on: least cost for a budget, as a piecewise linear function.
class Relaxation {
 public:
  Relaxation(const std::vector<std::vector<HullPoint>>& hulls, size_t first_class) {
    double weight = 0, cost = 0;
    for (size_t c = first_class; c < hulls.size(); ++c) {
      weight += hulls[c].front().weight;
      cost += hulls[c].front().cost;
    }
    weights_.push_back(weight);
    costs_.push_back(cost);
    for (const Step& s : steps_of(hulls, first_class)) {
      weights_.push_back(weights_.back() + s.weight);
      costs_.push_back(costs_.back() + s.cost);
    }
  }
  double least_weight() const { return weights_.front(); }
  double at(double budget) const {
    if (budget < weights_.front()) return std::numeric_limits<double>::infinity();
    const auto it = std::upper_bound(weights_.begin(), weights_.end(), budget);
    if (it == weights_.end()) return costs_.back();
    const auto i = static_cast<size_t>(it - weights_.begin());
    const double share = (budget - weights_[i - 1]) / (weights_[i] - weights_[i - 1]);
    return costs_[i - 1] + share * (costs_[i] - costs_[i - 1]);
  }

 private:
  std::vector<double> weights_, costs_;
};

struct State {
  double weight, cost;
  uint32_t parent;  // in the states of the class before
  uint32_t choice;
};

double sum_of(std::span<const std::vector<AllocationChoice>> classes, const std::vector<size_t>& choice,
              double AllocationChoice::*what) {
  double sum = 0;
  for (size_t c = 0; c < classes.size(); ++c) sum += classes[c][choice[c]].*what;
  return sum;
}

void total(std::span<const std::vector<AllocationChoice>> classes, Allocation& a) {
  a.weight = sum_of(classes, a.choice, &AllocationChoice::weight);
  a.cost = sum_of(classes, a.choice, &AllocationChoice::cost);
}

// The hull's steps in order of slope, those that do not fit left out, then any single change that fits and gains.
Allocation greedy(std::span<const std::vector<AllocationChoice>> classes,
                  const std::vector<std::vector<HullPoint>>& hulls, double budget) {
  Allocation a;
  double weight = 0;
  std::vector<size_t> at(hulls.size(), 0);
  for (const auto& hull : hulls) weight += hull.front().weight;
  std::vector<bool> stopped(hulls.size(), false);
  for (const Step& s : steps_of(hulls, 0)) {
    if (stopped[s.cls]) continue;
    if (weight + s.weight > budget) {
      stopped[s.cls] = true;
      continue;
    }
    weight += s.weight;
    at[s.cls] = s.to;
  }
  for (size_t c = 0; c < hulls.size(); ++c) a.choice.push_back(hulls[c][at[c]].choice);
  for (bool moved = true; moved;) {
    moved = false;
    for (size_t c = 0; c < classes.size(); ++c)
      for (size_t i = 0; i < classes[c].size(); ++i) {
        const AllocationChoice &from = classes[c][a.choice[c]], &to = classes[c][i];
        if (to.cost >= from.cost || weight - from.weight + to.weight > budget) continue;
        weight += to.weight - from.weight;
        a.choice[c] = i;
        moved = true;
      }
  }
  total(classes, a);
  return a;
}

}  // namespace

Allocation allocate(std::span<const std::vector<AllocationChoice>> classes, double budget, size_t max_states) {
  std::vector<std::vector<HullPoint>> hulls;
  for (const auto& choices : classes) hulls.push_back(hull_of(choices));
  const Relaxation whole(hulls, 0);
  Allocation best;
  if (whole.least_weight() > budget) {
    for (const auto& hull : hulls) best.choice.push_back(hull.front().choice);
    total(classes, best);
    best.bound = best.cost;
    return best;
  }
  best = greedy(classes, hulls, budget);
  best.feasible = true;
  best.bound = whole.at(budget);

  // Classes with the largest weights first: what is left to the bound is then fine-grained.
  std::vector<size_t> order(classes.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto range = [&](size_t c) { return hulls[c].back().weight - hulls[c].front().weight; };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return range(a) > range(b); });
  std::vector<std::vector<HullPoint>> ordered;
  for (size_t c : order) ordered.push_back(hulls[c]);
  std::vector<Relaxation> rest;
  for (size_t c = 0; c <= classes.size(); ++c) rest.emplace_back(ordered, c);

  const double slack = kRelativeSlack * std::max(best.cost, 1e-300);
  std::vector<std::vector<State>> layers{{{0, 0, 0, 0}}};
  double dropped = std::numeric_limits<double>::infinity();  // least bound among states dropped for want of room
  for (size_t l = 0; l < order.size(); ++l) {
    const auto& choices = classes[order[l]];
    std::vector<State> next;
    for (size_t s = 0; s < layers[l].size(); ++s)
      for (size_t i = 0; i < choices.size(); ++i) {
        const State state{layers[l][s].weight + choices[i].weight, layers[l][s].cost + choices[i].cost,
                          static_cast<uint32_t>(s), static_cast<uint32_t>(i)};
        if (state.weight > budget) continue;
        if (state.cost + rest[l + 1].at(budget - state.weight) < best.cost - slack) next.push_back(state);
      }
    std::sort(next.begin(), next.end(), [](const State& a, const State& b) {
      return a.weight != b.weight ? a.weight < b.weight : a.cost != b.cost ? a.cost < b.cost : a.parent < b.parent;
    });
    std::vector<State> kept;
    for (const State& s : next)
      if (kept.empty() || s.cost < kept.back().cost) kept.push_back(s);
    if (kept.size() > max_states) {
      std::vector<std::pair<double, size_t>> bounds;
      for (size_t s = 0; s < kept.size(); ++s)
        bounds.emplace_back(kept[s].cost + rest[l + 1].at(budget - kept[s].weight), s);
      std::nth_element(bounds.begin(), bounds.begin() + static_cast<ptrdiff_t>(max_states), bounds.end());
      dropped = std::min(dropped, bounds[max_states].first);
      bounds.resize(max_states);
      std::sort(bounds.begin(), bounds.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
      std::vector<State> fewer;
      for (const auto& [bound, s] : bounds) fewer.push_back(kept[s]);
      kept = std::move(fewer);
    }
    layers.push_back(std::move(kept));
  }
  if (!layers.back().empty()) {  // the lightest has the highest cost: the last is the best
    size_t at = layers.back().size() - 1;
    for (size_t l = order.size(); l-- > 0;) {
      const State& s = layers[l + 1][at];
      best.choice[order[l]] = s.choice;
      at = s.parent;
    }
    total(classes, best);
  }
  best.bound = std::max(best.bound, std::min(best.cost, dropped));
  return best;
}

std::vector<Allocation> allocation_front(std::span<const std::vector<AllocationChoice>> classes) {
  std::vector<std::vector<HullPoint>> hulls;
  for (const auto& choices : classes) hulls.push_back(hull_of(choices));
  std::vector<Allocation> front;
  Allocation now;
  now.feasible = true;
  for (const auto& hull : hulls) now.choice.push_back(hull.front().choice);
  total(classes, now);
  now.bound = now.cost;
  front.push_back(now);
  for (const Step& s : steps_of(hulls, 0)) {
    now.choice[s.cls] = hulls[s.cls][s.to].choice;
    total(classes, now);
    now.bound = now.cost;
    front.push_back(now);
  }
  return front;
}

}  // namespace tsubu
