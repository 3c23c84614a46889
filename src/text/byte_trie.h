// A read-only trie over byte strings, laid out breadth first: the children of a node stand side by side, sorted by
// byte.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace tsubu {

class ByteTrie {
 public:
  ByteTrie() { root_.fill(kNone); }
  // Of equal keys the first one counts; empty keys are left out. Values are >= 0.
  explicit ByteTrie(std::vector<std::pair<std::string_view, int32_t>> entries);

  bool starts_some_key(char first) const { return root_[static_cast<uint8_t>(first)] != kNone; }

  // Calls visit(length, value) for every key that begins `text`, shortest first.
  template <class Visit>
  void visit_prefixes(std::string_view text, Visit&& visit) const {
    if (text.empty()) return;
    uint32_t node = root_[static_cast<uint8_t>(text[0])];
    for (size_t length = 1; node != kNone; ++length) {
      if (nodes_[node].value >= 0) visit(length, nodes_[node].value);
      if (length == text.size()) return;
      node = child(nodes_[node], static_cast<uint8_t>(text[length]));
    }
  }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Node {
    uint32_t first_child = 0;
    uint16_t n_children = 0;
    uint8_t label = 0;
    int32_t value = -1;
  };
  uint32_t child(const Node& node, uint8_t label) const;

  std::array<uint32_t, 256> root_;
  std::vector<Node> nodes_;
};

}  // namespace tsubu
