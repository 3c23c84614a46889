#include "text/pre_tokenizer.h"

#include <algorithm>

#include "text/utf8.h"

namespace tsubu {
namespace {

using Words = std::vector<std::string_view>;

void cut(std::string_view piece, const Regex& regex, Regex::Scratch& scratch, Words& out) {
  size_t done = 0;
  const auto emit = [&](size_t end) {
    if (end > done) out.push_back(piece.substr(done, end - done));
    done = std::max(done, end);
  };
  for (size_t from = 0; from < piece.size();) {
    const auto match = regex.find(piece, from, scratch);
    if (!match) break;
    emit(match->begin);
    emit(match->end);
    from = match->end;
    if (match->begin == match->end) from += std::max<size_t>(utf8_char_length(piece, from), 1);
  }
  emit(piece.size());
}

// End of the stretch of characters from `at` that are all well-formed, or all malformed.
size_t stretch_end(std::string_view text, size_t at) {
  const bool is_well_formed = utf8_char_length(text, at) > 0;
  while (at < text.size()) {
    const size_t length = utf8_char_length(text, at);
    if ((length > 0) != is_well_formed) break;
    at += std::max<size_t>(length, 1);
  }
  return at;
}

}  // namespace

PreTokenizer::PreTokenizer(const PreTokenizerSpec& spec) {
  for (std::string_view pattern : spec.patterns) regexes_.emplace_back(pattern);
}

Words PreTokenizer::split(std::string_view text) const {
  Regex::Scratch scratch;
  Words words;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = stretch_end(text, begin);
    const bool is_well_formed = utf8_char_length(text, begin) > 0;
    Words pieces{text.substr(begin, end - begin)};
    begin = end;
    if (is_well_formed) {
      for (const Regex& regex : regexes_) {
        Words finer;
        finer.reserve(pieces.size() * 2);
        for (std::string_view piece : pieces) cut(piece, regex, scratch, finer);
        pieces = std::move(finer);
      }
    }
    words.insert(words.end(), pieces.begin(), pieces.end());
  }
  return words;
}

const PreTokenizerSpec* find_pre_tokenizer(std::string_view name) {
  for (const PreTokenizerSpec& spec : pre_tokenizer_specs())
    if (std::ranges::find(spec.names, name) != spec.names.end()) return &spec;
  return nullptr;
}

const PreTokenizerSpec* find_pre_tokenizer_by_patterns(const std::vector<std::string>& patterns, bool ignore_merges) {
  const PreTokenizerSpec* found = nullptr;
  for (const PreTokenizerSpec& spec : pre_tokenizer_specs()) {
    if (!std::ranges::equal(spec.patterns, patterns)) continue;
    if (spec.ignore_merges == ignore_merges) return &spec;
    if (found == nullptr) found = &spec;
  }
  if (found != nullptr) return found;
  for (const PreTokenizerSpelling& spelling : pre_tokenizer_spellings())
    if (std::ranges::equal(spelling.patterns, patterns)) return find_pre_tokenizer(spelling.name);
  return nullptr;
}

}  // namespace tsubu
