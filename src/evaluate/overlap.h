// How much of one text stands in another, by runs of 13 words: a model that was calibrated on what it is judged by
// looks better than it is. Words are runs of letters and digits, in lower case; a character of a script written without
// spaces (Han, kana) is a word of its own.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/json.h"

namespace tsubu {

inline constexpr size_t kOverlapWords = 13;

std::vector<std::string> overlap_words(std::string_view text);

struct Overlap {
  uint64_t n_runs = 0, n_shared = 0;  // runs of 13 words of the judged text, and how many the other text has
  std::string first_shared;           // the words of the first of them
  double share() const { return n_runs == 0 ? 0 : static_cast<double>(n_shared) / static_cast<double>(n_runs); }
};

class OverlapIndex {
 public:
  void add(std::string_view text);
  bool empty() const { return runs_.empty(); }
  Overlap overlap(std::string_view text) const;

 private:
  std::unordered_set<uint64_t> runs_;  // hashes
};

Json to_json(const Overlap& overlap);

}  // namespace tsubu
