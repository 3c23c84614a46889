// PCRE2 with UTF-8 and Unicode properties, compiled once (JIT), matched from any thread.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>

namespace tsubu {

class Regex {
 public:
  // Throws Error(kBadInput) for a pattern that does not compile. \s is Unicode's White_Space, as the tokenizers' own
  // regex engines have it (PCRE2's would add U+180E).
  explicit Regex(std::string_view pattern);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  struct Range {
    size_t begin, end;
  };

  // Scratch space of one thread's matching.
  class Scratch {
   public:
    Scratch();
    ~Scratch();

   private:
    friend class Regex;
    struct State;
    std::unique_ptr<State> state_;
  };

  // First match at or after `from` in well-formed UTF-8; nothing outside `text` is looked at. Throws Error(kBadInput)
  // when the text takes more backtracking than a tokenizer should need.
  std::optional<Range> find(std::string_view text, size_t from, Scratch& scratch) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace tsubu
