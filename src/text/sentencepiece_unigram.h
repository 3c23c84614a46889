// SentencePiece unigram (T5, XLM-R, ALBERT): the segmentation into pieces with the highest sum of scores (Viterbi).
// Source: Kudo 2018, "Subword Regularization"; unknown characters cost the lowest score less 10, as in SentencePiece.
#pragma once

#include "text/byte_tokens.h"
#include "text/byte_trie.h"
#include "text/sentencepiece_normalizer.h"
#include "text/tokenizer.h"

namespace tsubu {

class SentencePieceUnigram : public Tokenizer {
 public:
  explicit SentencePieceUnigram(Vocabulary vocabulary);

 protected:
  void encode_run(std::string_view text, bool is_first, std::vector<TokenId>& out) const override;
  std::string piece_bytes(TokenId id) const override;
  bool prefixes_space() const override { return vocabulary_.add_space_prefix; }

 private:
  SentencePieceNormalizer normalize_;
  ByteTokens byte_tokens_;
  ByteTrie pieces_;
  float unknown_score_ = 0;
};

}  // namespace tsubu
