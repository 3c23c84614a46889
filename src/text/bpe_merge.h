// Byte-pair merging by a priority queue: O(n log n) in the length of the run, whatever its content.
#pragma once

#include <cstdint>
#include <optional>
#include <queue>
#include <vector>

namespace tsubu {

// A stretch of the run that is one symbol so far. Dead symbols (merged into their left neighbor) have length 0.
struct BpeSymbol {
  uint32_t offset = 0, length = 0;  // bytes
  int32_t id = -1;                  // token, -1 when the text is none
  int32_t previous = -1, next = -1;
};

struct BpeMerge {
  double cost;  // lowest first; of equal ones the leftmost
  int32_t id;   // of the merged token
};

// Links the symbols into a chain and merges neighbors while find(left, right) (std::optional<BpeMerge>) has something
// to merge. What is left is the chain that starts at symbols[0].
template <class Find>
void merge_symbols(std::vector<BpeSymbol>& symbols, Find&& find) {
  struct Candidate {
    double cost;
    int32_t left, right;
    uint32_t length;  // of both together: tells a stale candidate
    int32_t id;
    bool operator<(const Candidate& other) const { return cost != other.cost ? cost > other.cost : left > other.left; }
  };
  std::priority_queue<Candidate> queue;
  const auto consider = [&](int32_t left, int32_t right) {
    if (left < 0 || right < 0) return;
    const BpeSymbol &l = symbols[static_cast<size_t>(left)], &r = symbols[static_cast<size_t>(right)];
    if (const std::optional<BpeMerge> merge = find(l, r))
      queue.push({merge->cost, left, right, l.length + r.length, merge->id});
  };
  const auto n = static_cast<int32_t>(symbols.size());
  for (int32_t i = 0; i < n; ++i) {
    symbols[static_cast<size_t>(i)].previous = i - 1;
    symbols[static_cast<size_t>(i)].next = i + 1 < n ? i + 1 : -1;
  }
  for (int32_t i = 0; i + 1 < n; ++i) consider(i, i + 1);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    BpeSymbol &left = symbols[static_cast<size_t>(best.left)], &right = symbols[static_cast<size_t>(best.right)];
    if (left.length == 0 || right.length == 0 || left.length + right.length != best.length) continue;
    left.length += right.length;
    left.id = best.id;
    left.next = right.next;
    right.length = 0;
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = best.left;
    consider(left.previous, best.left);
    consider(best.left, left.next);
  }
}

}  // namespace tsubu
