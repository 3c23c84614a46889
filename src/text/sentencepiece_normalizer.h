// SentencePiece's normalizer: precompiled character map, whitespace collapsing, space prefix, spaces to U+2581.
// Source: github.com/google/sentencepiece, normalizer.proto and the paper (Kudo & Richardson 2018).
#pragma once

#include <string>
#include <string_view>

#include "text/charsmap.h"
#include "text/vocabulary.h"

namespace tsubu {

inline constexpr std::string_view kMetaSpace = "\xE2\x96\x81";  // U+2581 ▁

class SentencePieceNormalizer {
 public:
  explicit SentencePieceNormalizer(const Vocabulary& vocabulary);
  // with_prefix: the run may be given its space prefix; an empty run then is the prefix alone.
  std::string operator()(std::string_view text, bool with_prefix) const;

 private:
  Charsmap charsmap_;
  bool add_prefix_, only_if_missing_, collapse_, escape_;
  std::string form_;  // Unicode normalization, empty for none
};

// Text of a token as it reads: U+2581 back to a space.
std::string unescape_meta_space(std::string_view token);

}  // namespace tsubu
