// Sentences that a program says about what it found, kept with what they are made of, so that a page can say them in
// another language: an id, arguments (numbers already formatted, names) and the English text. Each layer that speaks has
// one list of its kinds; the translations stand in page/words.cc, and a test holds the two together.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace tsubu {

struct RemarkKind {
  std::string_view id, english;  // {0}, {1} … stand for the arguments
};

struct Remark {
  std::string id;  // empty: nothing to say, or a text without a translation
  std::vector<std::string> args;
  std::string text;   // English
  std::string about;  // what it is said of, a name; empty: of the whole
  bool empty() const { return text.empty(); }
};

// The pattern with its arguments in their places; a place without an argument stays as it is.
std::string fill(std::string_view pattern, std::span<const std::string> args);

inline Remark remark(const RemarkKind& kind, std::vector<std::string> args = {}) {
  std::string text = fill(kind.english, args);
  return {std::string(kind.id), std::move(args), std::move(text), {}};
}

inline Remark remark_about(std::string about, const RemarkKind& kind, std::vector<std::string> args = {}) {
  Remark s = remark(kind, std::move(args));
  s.about = std::move(about);
  return s;
}

// The kind with that id of a list; an id that the list does not have does not compile.
template <size_t n>
consteval const RemarkKind& kind_in(const RemarkKind (&list)[n], std::string_view id) {
  for (const RemarkKind& kind : list)
    if (kind.id == id) return kind;
  throw "no remark of this list has that id";
}

// "about: text" of each.
std::string joined(std::span<const Remark> remarks, std::string_view between);

// {"id", "args", "text"}
Json to_json(const Remark& remark);
Json to_json(std::span<const Remark> remarks);

}  // namespace tsubu
