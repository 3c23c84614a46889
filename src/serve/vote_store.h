// Blind votes between two models, kept in an SQLite file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tsubu::serve {

struct Vote {
  std::string model, base;  // who was compared
  std::string winner;       // one of the two names; empty: a tie
  std::string left;         // which of them stood on the left
  std::string prompt_hash;  // of the conversation: not the text itself
};

struct VoteCount {
  uint64_t model = 0, base = 0, ties = 0;
  double share = 0;          // of the model among the votes that are no ties; 0.5 without any
  double ci95[2] = {0, 1};   // of it: Wilson's score interval
  double p = 1;              // two-sided exact, of both being preferred equally often
};

// Counts alone; shares and interval from them (Wilson 1927).
VoteCount counted(uint64_t model, uint64_t base, uint64_t ties);

class VoteStore {
 public:
  // The file is made with the first vote. Throws Error(kIo / kBadInput) when it is there and is no vote file.
  explicit VoteStore(std::string path);
  ~VoteStore();
  // Thread-safe. Throws Error(kIo).
  void add(const Vote& vote);
  VoteCount count(const std::string& model, const std::string& base) const;
  const std::string& path() const { return path_; }

 private:
  struct Database;
  void open();
  const std::string path_;
  std::unique_ptr<Database> database_;
};

}  // namespace tsubu::serve
