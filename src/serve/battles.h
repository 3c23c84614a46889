// Blind comparisons that are open: which model stands left and which right, until somebody has voted.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <string>

namespace tsubu::serve {

struct Battle {
  size_t left = 0;  // which of the two models: 0 or 1
  std::string prompt_hash[2];  // of what was asked of left and right; empty: nothing yet
};

class Battles {
 public:
  // A name that nobody guesses; sides are drawn anew.
  std::string open();
  // "blind-ID-left" or "-right" → which model; records what it was asked. nullopt: no such battle.
  std::optional<size_t> lane_of(const std::string& alias, const std::string& prompt_hash);
  // Ends it. nullopt: no such battle, or a side was not asked, or the two were asked different things (it stays open).
  std::optional<Battle> close(const std::string& id);
  static bool is_alias(const std::string& name) { return name.starts_with("blind-"); }

 private:
  static constexpr size_t kMost = 1024;  // open at a time; the oldest go first
  std::mutex mutex_;
  std::map<std::string, Battle> open_;
  std::deque<std::string> order_;
  std::random_device random_;
};

// 32 hexadecimal digits from the system's generator.
std::string random_id();

}  // namespace tsubu::serve
