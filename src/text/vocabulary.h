// A vocabulary as data: what any tokenizer file holds, in one shape. It knows no file format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace tsubu {

enum class VocabularyKind { kNone, kSentencePieceBpe, kSentencePieceUnigram, kByteLevelBpe, kWordPiece };

// Numbering as in GGUF's tokenizer.ggml.token_type.
enum class TokenType : int32_t {
  kUndefined = 0, kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6
};

struct Vocabulary {
  VocabularyKind kind = VocabularyKind::kNone;
  std::string pre;  // pre-tokenizer as GGUF spells it ("default", "llama-bpe", "qwen2", "gpt-2" …); byte-level only
  std::vector<std::string> tokens;  // as stored: "▁the" (SentencePiece) or byte-encoded "Ġthe" (byte-level)
  std::vector<float> scores;        // SentencePiece; may be empty
  std::vector<TokenType> types;
  std::vector<std::pair<std::string, std::string>> merges;  // byte-level, by rank
  int32_t bos = -1, eos = -1, unk = -1, sep = -1, pad = -1, eot = -1;
  bool add_bos = false, add_eos = false;
  bool add_space_prefix = true;           // SentencePiece: U+2581 before the first piece
  // SentencePiece: the space prefix also follows every special token in the text (GGUF, older Hugging Face tokenizers),
  // not only the start of the text (the SentencePiece library).
  bool prefix_after_special = true;
  bool prefix_only_if_missing = false;  // no prefix where a space is already (Hugging Face's Metaspace)
  bool remove_extra_whitespaces = false;  // SentencePiece normaliser
  bool escape_whitespaces = true;
  std::vector<std::byte> precompiled_charsmap;  // unigram normaliser
  std::string chat_template;                    // Jinja source, as published
  std::string normalizer;  // "", "nfc", "nfd", "nfkc" or "nfkd": done to a text before anything else
  std::vector<int32_t> end_of_generation;  // ids that end a reply, beside eos and eot
  std::vector<int32_t> strip_left, strip_right;  // special tokens that swallow the whitespace before or after them
};

}  // namespace tsubu
