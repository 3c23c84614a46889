// One choice for each of several classes, of least cost within a budget: the multiple-choice knapsack that bit allocation
// is. Solved exactly: the linear relaxation bounds what the open classes can still give, partial solutions that the bound
// or another one beats are dropped (Nemhauser and Ullmann's dominance, Dyer and Zemel's relaxation), and what is left at
// the end is an optimum.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace tsubu {

struct AllocationChoice {
  double weight = 0, cost = 0;  // bytes and predicted harm, or the other way round; both ≥ 0
};

struct Allocation {
  std::vector<size_t> choice;  // by class
  double weight = 0, cost = 0;
  double bound = 0;            // no solution costs less; cost itself when it is proved to be the optimum
  bool feasible = false;       // false: even the lightest choices are too heavy, and those are returned
  bool is_optimal() const { return feasible && bound >= cost; }
};

// max_states: partial solutions kept at a time; beyond them the least promising are dropped and only `bound` is proved.
Allocation allocate(std::span<const std::vector<AllocationChoice>> classes, double budget,
                    size_t max_states = size_t{1} << 20);

// The convex front, from the lightest to the cheapest: each is the optimum for its own weight.
std::vector<Allocation> allocation_front(std::span<const std::vector<AllocationChoice>> classes);

}  // namespace tsubu
