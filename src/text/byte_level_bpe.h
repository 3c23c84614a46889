// Byte-level BPE (GPT-2, Llama 3, Qwen, DeepSeek, …): a pre-tokenizer cuts the text into words, each word's bytes are
// merged pair by pair, lowest rank first.
#pragma once

#include <array>
#include <string>
#include <unordered_map>
#include <vector>

#include "text/byte_tokens.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"

namespace tsubu {

class ByteLevelBpe : public Tokenizer {
 public:
  // Throws Error(kUnsupported) for an unknown pre-tokenizer, Error(kBadInput) for a merge of unknown tokens.
  explicit ByteLevelBpe(Vocabulary vocabulary);

 protected:
  void encode_run(std::string_view text, bool is_first, std::vector<TokenId>& out) const override;
  std::string piece_bytes(TokenId id) const override { return bytes_[static_cast<size_t>(id)]; }

 private:
  void index_merges();
  void encode_word(std::string_view word, std::vector<TokenId>& out) const;

  const PreTokenizerSpec& spec_;
  PreTokenizer pre_tokenizer_;
  std::vector<std::string> bytes_;  // of each token
  std::array<TokenId, 256> byte_ids_;
  struct RankedMerge {
    uint32_t rank;
    TokenId id;
  };
  std::unordered_map<uint64_t, RankedMerge> merges_;  // by (left id, right id)
  TokenIndex whole_words_;                            // bytes → id; only for ignore_merges
};

}  // namespace tsubu
