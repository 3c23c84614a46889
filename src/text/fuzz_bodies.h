// What each fuzz target does with its input; the unit tests replay the corpus through the same functions. Any bytes
// either make a tokenizer or throw tsubu::Error; a tokenizer takes any text, and every id has a piece.
#pragma once

#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "text/sentencepiece_normalizer.h"
#include "text/test_vocabularies.h"
#include "text/tokenizer.h"

namespace tsubu {

inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Runs a tokenizer over its own tokens and some text; the results only have to be ids of the vocabulary.
inline void exercise(const Tokenizer& tokenizer, std::string_view text) {
  constexpr size_t kPiecesTried = 2000;
  for (const bool special : {false, true}) {
    const std::vector<TokenId> ids = tokenizer.encode(text, special, special);
    for (TokenId id : ids)
      if (id < 0 || static_cast<size_t>(id) >= tokenizer.n_tokens()) std::abort();
    (void)tokenizer.decode(ids, special);
  }
  const auto n = static_cast<TokenId>(std::min(tokenizer.n_tokens(), kPiecesTried));
  for (TokenId id = -1; id <= n; ++id) {
    (void)tokenizer.piece(id);
    (void)tokenizer.is_end_of_generation(id);
  }
}

// True when the bytes are a valid tokenizer file.
template <class Read>
bool try_vocabulary(std::string_view bytes, Read&& read) {
  try {
    const auto tokenizer = Tokenizer::make(read());
    exercise(*tokenizer, "the  cat's 1234 \n\n caf\xC3\xA9 <s></s> \xE7\x8C\xAB \xFF\xE7");
    exercise(*tokenizer, bytes.substr(0, 4096));
    return true;
  } catch (const Error&) {
    return false;
  }
}

inline bool try_sentencepiece(std::span<const std::byte> bytes) {
  return try_vocabulary(as_text(bytes), [&] { return vocabulary_from_sentencepiece(bytes, "input"); });
}

inline bool try_tokenizer_json(std::span<const std::byte> bytes) {
  return try_vocabulary(as_text(bytes), [&] { return vocabulary_from_tokenizer_json(as_text(bytes), "input"); });
}

// The first byte picks the tokenizer, the rest is the text, which must survive: exactly with byte-level BPE, with
// SentencePiece but for U+2581, which reads as a space.
inline bool try_tokenizer_text(std::span<const std::byte> bytes) {
  static const std::vector<std::unique_ptr<Tokenizer>> kTokenizers = [] {
    std::vector<std::unique_ptr<Tokenizer>> all;
    all.push_back(Tokenizer::make(tiny_sentencepiece(VocabularyKind::kSentencePieceBpe)));
    all.push_back(Tokenizer::make(tiny_sentencepiece(VocabularyKind::kSentencePieceUnigram)));
    for (const std::string& pre : pre_tokenizer_names()) all.push_back(Tokenizer::make(tiny_byte_level(pre)));
    return all;
  }();
  if (bytes.empty()) return false;
  const Tokenizer& tokenizer = *kTokenizers[static_cast<size_t>(bytes[0]) % kTokenizers.size()];
  const std::string_view text = as_text(bytes.subspan(1));
  exercise(tokenizer, text);
  const bool is_byte_level = tokenizer.vocabulary().kind == VocabularyKind::kByteLevelBpe;
  const std::string expected = is_byte_level ? std::string(text) : unescape_meta_space(text);
  if (tokenizer.decode(tokenizer.encode(text, false, false)) != expected) std::abort();
  if (tokenizer.decode(tokenizer.encode(text, false, true), true) != expected) std::abort();
  return true;
}

}  // namespace tsubu
