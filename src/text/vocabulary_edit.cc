#include "text/vocabulary_edit.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "text/sentencepiece_normalizer.h"

namespace tsubu {

void place_token(Vocabulary& vocabulary, int32_t id, std::string text, TokenType type, size_t max_tokens,
                 const std::string& where) {
  const auto i = static_cast<size_t>(id);
  if (id < 0 || i >= max_tokens)
    fail(ExitCode::kBadInput, "{}: token '{}' has id {}, expected an id below {}", where, text, id, max_tokens);
  if (i >= vocabulary.tokens.size()) {
    vocabulary.tokens.resize(i + 1);
    vocabulary.types.resize(i + 1, TokenType::kUndefined);
    if (!vocabulary.scores.empty()) vocabulary.scores.resize(i + 1, 0.0f);
  }
  vocabulary.tokens[i] = std::move(text);
  vocabulary.types[i] = type;
}

void add_token(Vocabulary& vocabulary, const AddedToken& token, size_t max_tokens, const std::string& where) {
  const bool is_known = token.id >= 0 && static_cast<size_t>(token.id) < vocabulary.tokens.size();
  const bool is_unknown_token = is_known && vocabulary.types[static_cast<size_t>(token.id)] == TokenType::kUnknown;
  const TokenType type = is_unknown_token ? TokenType::kUnknown
                         : token.special  ? TokenType::kControl
                                          : TokenType::kUserDefined;
  const bool is_byte_level = vocabulary.kind == VocabularyKind::kByteLevelBpe;
  std::string text = is_byte_level || token.special ? token.content : unescape_meta_space(token.content);
  place_token(vocabulary, token.id, std::move(text), type, max_tokens, where);
  const auto mark = [&](std::vector<int32_t>& ids, bool value) {
    std::erase(ids, token.id);
    if (value) ids.push_back(token.id);
  };
  mark(vocabulary.strip_left, token.strip_left);
  mark(vocabulary.strip_right, token.strip_right);
}

void fill_holes(Vocabulary& vocabulary, size_t n_tokens) {
  const size_t n = std::max(n_tokens, vocabulary.tokens.size());
  vocabulary.tokens.resize(n);
  vocabulary.types.resize(n, TokenType::kUndefined);
  if (!vocabulary.scores.empty()) vocabulary.scores.resize(n, 0.0f);
  for (size_t i = 0; i < n; ++i) {
    if (vocabulary.types[i] != TokenType::kUndefined || !vocabulary.tokens[i].empty()) continue;
    vocabulary.tokens[i] = fmt::format("[PAD{}]", i);
    vocabulary.types[i] = TokenType::kUnused;
  }
}

int32_t find_token(const Vocabulary& vocabulary, std::string_view text) {
  int32_t first = -1;
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    if (vocabulary.tokens[i] != text) continue;
    if (vocabulary.types[i] == TokenType::kControl) return static_cast<int32_t>(i);
    if (first < 0) first = static_cast<int32_t>(i);
  }
  return first;
}

}  // namespace tsubu
