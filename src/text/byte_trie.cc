#include "text/byte_trie.h"

#include <algorithm>
#include <deque>

namespace tsubu {

ByteTrie::ByteTrie(std::vector<std::pair<std::string_view, int32_t>> entries) : ByteTrie() {
  const auto by_key = [](const auto& a, const auto& b) { return a.first < b.first; };
  std::stable_sort(entries.begin(), entries.end(), by_key);
  const auto same_key = [](const auto& a, const auto& b) { return a.first == b.first; };
  entries.erase(std::unique(entries.begin(), entries.end(), same_key), entries.end());
  if (!entries.empty() && entries.front().first.empty()) entries.erase(entries.begin());

  struct Range {
    uint32_t parent;
    size_t begin, end, depth;
  };  // entries that share their first `depth` bytes
  std::deque<Range> ranges{{kNone, 0, entries.size(), 0}};
  for (; !ranges.empty(); ranges.pop_front()) {
    auto [parent, begin, end, depth] = ranges.front();
    if (begin < end && entries[begin].first.size() == depth) nodes_[parent].value = entries[begin++].second;
    if (parent != kNone) nodes_[parent].first_child = static_cast<uint32_t>(nodes_.size());
    while (begin < end) {
      const char label = entries[begin].first[depth];
      size_t stop = begin;
      while (stop < end && entries[stop].first[depth] == label) ++stop;
      const auto node = static_cast<uint32_t>(nodes_.size());
      nodes_.push_back({.label = static_cast<uint8_t>(label)});
      if (parent == kNone)
        root_[static_cast<uint8_t>(label)] = node;
      else
        ++nodes_[parent].n_children;
      ranges.push_back({node, begin, stop, depth + 1});
      begin = stop;
    }
  }
}

uint32_t ByteTrie::child(const Node& node, uint8_t label) const {
  uint32_t low = node.first_child, high = low + node.n_children;
  while (high - low > 8) {
    const uint32_t middle = low + (high - low) / 2;
    (nodes_[middle].label <= label ? low : high) = middle;
  }
  for (; low < high; ++low)
    if (nodes_[low].label == label) return low;
  return kNone;
}

}  // namespace tsubu
