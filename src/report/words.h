// What the page says, in each language that it speaks.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace tsubu {

enum class Language { kEnglish, kJapanese };

// Throws Error(kUsage) for anything but "en" and "ja".
Language language_named(std::string_view name);

// The phrase with that key. A key that does not exist is a bug: it is returned as it is, and a test looks for it.
class Words {
 public:
  explicit Words(Language language) : language_(language) {}
  std::string operator()(std::string_view key) const;
  Language language() const { return language_; }

 private:
  Language language_;
};

struct Phrase {
  std::string_view key, english, japanese;
};
std::span<const Phrase> phrases();

}  // namespace tsubu
