// Finds the special tokens that stand written out in a text: leftmost first, the longest of those that start there.
#pragma once

#include <optional>
#include <string_view>

#include "text/byte_trie.h"
#include "text/vocabulary.h"

namespace tsubu {

class SpecialMatcher {
 public:
  explicit SpecialMatcher(const Vocabulary& vocabulary);

  struct Match {
    size_t begin, end;  // of the token's text; the whitespace that it swallows is outside
    int32_t id;
    bool strip_left, strip_right;
  };
  // The first match at or after `from`. parse_special: control and unknown tokens too, not only user-defined ones.
  std::optional<Match> find(std::string_view text, size_t from, bool parse_special) const;

 private:
  ByteTrie user_defined_, all_;
  std::vector<bool> strip_left_, strip_right_;  // by id; empty when no token strips
};

}  // namespace tsubu
