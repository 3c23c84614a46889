// What the page says, in each language that it speaks: its own phrases, and what runs say in sentences.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/json.h"

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
  // A remark of a run's JSON ({"id", "args", "text"}, or plain text as earlier versions wrote) in this language; in
  // English where the id has no translation. With its "about" before it.
  std::string said(const Json& remark) const;
  // A list of them, between them "; ".
  std::string all_said(const Json& remarks) const;

 private:
  Language language_;
};

struct Phrase {
  std::string_view key, english, japanese;
};
std::span<const Phrase> phrases();

// What a remark (base/remark.h) is in Japanese; its English stands where it is made.
struct Sentence {
  std::string_view id, japanese;
};
std::span<const Sentence> sentences();

}  // namespace tsubu
