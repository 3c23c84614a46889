// SentencePiece BPE (Llama 1 and 2, Mistral, Gemma, Phi-3): characters are merged into the pieces of the vocabulary,
// best score first; what no piece covers is spelled in byte tokens. With Vocabulary::merges (a tokenizer.json) the
// merges' ranks decide instead of the scores.
#pragma once

#include "text/bpe_merge.h"
#include "text/byte_tokens.h"
#include "text/sentencepiece_normalizer.h"
#include "text/tokenizer.h"

namespace tsubu {

class SentencePieceBpe : public Tokenizer {
 public:
  explicit SentencePieceBpe(Vocabulary vocabulary);

 protected:
  void encode_run(std::string_view text, bool is_first, std::vector<TokenId>& out) const override;
  std::string piece_bytes(TokenId id) const override;
  bool prefixes_space() const override { return vocabulary_.add_space_prefix; }

 private:
  // Pieces that were marked unused may be passed through while merging, but not come out: where they came from.
  using Origins = std::unordered_map<std::string_view, size_t>;  // text → bytes of its left part

  void encode_word(std::string_view word, std::vector<TokenId>& out) const;
  std::optional<BpeMerge> find_merge(std::string_view word, const BpeSymbol& left, const BpeSymbol& right,
                                     Origins& origins) const;
  void emit(std::string_view text, TokenId id, const Origins& origins, std::vector<TokenId>& out) const;
  TokenId find_piece(std::string_view text) const;
  void index_merges();

  SentencePieceNormalizer normalize_;
  ByteTokens byte_tokens_;
  TokenIndex pieces_;  // that merging may form
  size_t longest_piece_ = 0;
  bool words_are_separate_ = true;  // no piece has a U+2581 after another character: words can be encoded one by one
  struct RankedMerge {
    double rank;
    TokenId id;
  };
  std::unordered_map<uint64_t, RankedMerge> ranked_;  // (left id, right id); used when the vocabulary has merges
};

}  // namespace tsubu
