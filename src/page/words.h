// What the pages say, in each language that they speak: their own phrases, and what runs say in sentences.
#pragma once

#include <fmt/format.h>

#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "page/chart.h"

namespace tsubu {

enum class Language { kEnglish, kJapanese };

// Throws Error(kUsage) for anything but "en" and "ja".
Language language_named(std::string_view name);

// The phrase with that key. A key that does not exist is a bug: it is returned as it is, and a test looks for it.
class Words {
 public:
  explicit Words(Language language) : language_(language) {}
  std::string operator()(std::string_view key) const;
  // The same with its holes ({}, or {0} … where languages differ in their order) filled.
  template <class First, class... Rest>
  std::string operator()(std::string_view key, const First& first, const Rest&... rest) const {
    return fmt::format(fmt::runtime((*this)(key)), first, rest...);
  }
  Language language() const { return language_; }
  std::string_view code() const { return language_ == Language::kJapanese ? "ja" : "en"; }  // of HTML
  // A remark of a run's JSON ({"id", "args", "text"}, or plain text as earlier versions wrote) in this language; in
  // English where the id has no translation. With its "about" before it.
  std::string said(const Json& remark) const;
  // A list of them, between them "; ".
  std::string all_said(const Json& remarks) const;

 private:
  Language language_;
};

// What charts say besides their data.
ChartWords chart_words(const Words& words);
// A figure: title, chart, caption, and its numbers behind a line to open; without a chart it says that nothing was measured.
std::string titled_figure(const std::string& chart, const std::string& title, const std::string& caption, const std::string& table, const Words& words);

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
