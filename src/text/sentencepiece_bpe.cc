#include "text/sentencepiece_bpe.h"

#include <algorithm>

#include "base/error.h"
#include "text/utf8.h"

namespace tsubu {
namespace {

uint64_t pair_key(TokenId left, TokenId right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

// Start of the next word at or after `from`: a U+2581 that follows another character.
size_t next_word(std::string_view text, size_t from) {
  for (size_t at = text.find(kMetaSpace, from); at != std::string_view::npos;
       at = text.find(kMetaSpace, at + kMetaSpace.size())) {
    if (at > 0 && !text.substr(0, at).ends_with(kMetaSpace)) return at;
  }
  return std::string_view::npos;
}

}  // namespace

SentencePieceBpe::SentencePieceBpe(Vocabulary vocabulary)
    : Tokenizer(std::move(vocabulary)), normalize_(vocabulary_), byte_tokens_(vocabulary_) {
  for (size_t i = 0; i < vocabulary_.tokens.size(); ++i) {
    const TokenType type = vocabulary_.types[i];
    if (type == TokenType::kControl || type == TokenType::kUnknown || type == TokenType::kByte) continue;
    const std::string_view text = vocabulary_.tokens[i];
    if (text.empty()) continue;
    pieces_.emplace(text, static_cast<TokenId>(i));
    longest_piece_ = std::max(longest_piece_, text.size());
    if (next_word(text, 1) != std::string_view::npos) words_are_separate_ = false;
  }
  index_merges();
}

void SentencePieceBpe::index_merges() {
  if (vocabulary_.merges.empty()) return;
  TokenIndex all;
  for (size_t i = 0; i < vocabulary_.tokens.size(); ++i) all.emplace(vocabulary_.tokens[i], static_cast<TokenId>(i));
  const auto find = [&](const std::string& text) {
    const auto found = all.find(text);
    return found == all.end() ? -1 : found->second;
  };
  for (size_t rank = 0; rank < vocabulary_.merges.size(); ++rank) {
    const auto& [left, right] = vocabulary_.merges[rank];
    const TokenId l = find(left), r = find(right), both = find(left + right);
    if (l < 0 || r < 0 || both < 0)
      fail(ExitCode::kBadInput, "vocabulary: merge {} ('{}' + '{}') names a piece that is no token", rank, left, right);
    ranked_.emplace(pair_key(l, r), RankedMerge{static_cast<double>(rank), both});
  }
}

TokenId SentencePieceBpe::find_piece(std::string_view text) const {
  if (text.size() > longest_piece_) return -1;
  const auto found = pieces_.find(text);
  return found == pieces_.end() ? -1 : found->second;
}

void SentencePieceBpe::encode_run(std::string_view text, bool is_first, std::vector<TokenId>& out) const {
  const std::string normalized = normalize_(text, is_first);
  if (!words_are_separate_) return encode_word(normalized, out);

  struct Span {
    size_t begin, end;
  };
  std::unordered_map<std::string_view, Span> seen;  // where in `out` the ids of a word stand
  const std::string_view all = normalized;
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = std::min(next_word(all, begin + 1), all.size());
    const std::string_view word = all.substr(begin, end - begin);
    begin = end;
    const auto [entry, is_new] = seen.try_emplace(word, Span{out.size(), out.size()});
    if (is_new) {
      encode_word(word, out);
      entry->second.end = out.size();
      continue;
    }
    for (size_t i = entry->second.begin; i < entry->second.end; ++i) out.push_back(out[i]);
  }
}

void SentencePieceBpe::encode_word(std::string_view word, std::vector<TokenId>& out) const {
  std::vector<BpeSymbol> symbols;
  for (size_t at = 0; at < word.size();) {
    const size_t length = std::max<size_t>(utf8_char_length(word, at), 1);
    symbols.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(length), find_piece(word.substr(at, length))});
    at += length;
  }
  if (symbols.empty()) return;
  Origins origins;
  merge_symbols(symbols,
                [&](const BpeSymbol& left, const BpeSymbol& right) { return find_merge(word, left, right, origins); });
  for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
    const BpeSymbol& symbol = symbols[static_cast<size_t>(i)];
    emit(word.substr(symbol.offset, symbol.length), symbol.id, origins, out);
  }
}

std::optional<BpeMerge> SentencePieceBpe::find_merge(std::string_view word, const BpeSymbol& left,
                                                     const BpeSymbol& right, Origins& origins) const {
  if (!vocabulary_.merges.empty()) {
    const auto found = left.id < 0 || right.id < 0 ? ranked_.end() : ranked_.find(pair_key(left.id, right.id));
    if (found == ranked_.end()) return std::nullopt;
    return BpeMerge{found->second.rank, found->second.id};
  }
  const std::string_view text = word.substr(left.offset, left.length + right.length);
  const TokenId id = find_piece(text);
  if (id < 0) return std::nullopt;
  const auto i = static_cast<size_t>(id);
  if (vocabulary_.types[i] == TokenType::kUnused) origins.insert_or_assign(text, left.length);
  return BpeMerge{-vocabulary_.scores[i], id};
}

void SentencePieceBpe::emit(std::string_view text, TokenId id, const Origins& origins,
                            std::vector<TokenId>& out) const {
  if (id >= 0 && vocabulary_.types[static_cast<size_t>(id)] != TokenType::kUnused) {
    out.push_back(id);
    return;
  }
  const auto origin = id >= 0 ? origins.find(text) : origins.end();
  if (origin == origins.end()) return byte_tokens_.spell(text, out);
  const std::string_view left = text.substr(0, origin->second), right = text.substr(origin->second);
  emit(left, find_piece(left), origins, out);
  emit(right, find_piece(right), origins, out);
}

std::string SentencePieceBpe::piece_bytes(TokenId id) const {
  const auto i = static_cast<size_t>(id);
  const std::string& token = vocabulary_.tokens[i];
  switch (vocabulary_.types[i]) {
    case TokenType::kUnused:
      return {};
    case TokenType::kByte: {
      const auto byte = byte_of_token(token);
      return byte ? std::string(1, static_cast<char>(*byte)) : std::string();
    }
    default:
      return vocabulary_.escape_whitespaces ? unescape_meta_space(token) : token;
  }
}

}  // namespace tsubu
