// Text ↔ token ids, for every vocabulary kind. Made from a Vocabulary (GGUF metadata gives one through checkpoint/) or
// from the files that models ship with.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace tsubu {

using TokenId = int32_t;
class SpecialMatcher;

class Tokenizer {
 public:
  virtual ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;
  // Throws Error(kUnsupported) for a kind or pre-tokenizer we do not know, Error(kBadInput) for an inconsistent one.
  static std::unique_ptr<Tokenizer> make(Vocabulary vocabulary);

  // add_special: BOS/EOS as the vocabulary says. parse_special: control tokens written out in the text ("<|im_end|>")
  // become their ids; otherwise only user-defined tokens are matched.
  std::vector<TokenId> encode(std::string_view text, bool add_special = true, bool parse_special = false) const;
  // Bytes of the ids; invalid UTF-8 is possible (half a character). special: print control tokens too.
  std::string decode(std::span<const TokenId> ids, bool special = false) const;
  std::string piece(TokenId id, bool special = true) const;  // bytes of one token
  bool is_control(TokenId id) const;
  bool is_end_of_generation(TokenId id) const;  // EOS, EOT and their like
  size_t n_tokens() const { return vocabulary_.tokens.size(); }
  const Vocabulary& vocabulary() const { return vocabulary_; }

 protected:
  explicit Tokenizer(Vocabulary vocabulary);
  // Ids of a run of text that holds no special token; appended to out. is_first: a space prefix is due (nothing was
  // before the run or, where the vocabulary says so, a special token was).
  virtual void encode_run(std::string_view text, bool is_first, std::vector<TokenId>& out) const = 0;
  virtual std::string piece_bytes(TokenId id) const = 0;
  // True when encode_run puts a space before a run that is_first; decode takes it away again.
  virtual bool prefixes_space() const { return false; }
  const Vocabulary vocabulary_;

 private:
  bool is_printed_special(TokenId id) const;
  std::unique_ptr<const SpecialMatcher> specials_;
  std::vector<bool> ends_generation_;  // by id
};

// Names of the pre-tokenizers (byte-level BPE) that are supported.
std::vector<std::string> pre_tokenizer_names();

// From the files of a Hugging Face directory or of a tokenizer alone. `where` is used in messages.
Vocabulary vocabulary_from_sentencepiece(std::span<const std::byte> model_proto, const std::string& where);
// tokenizer.json (BPE byte-level, BPE with byte fallback as Llama/Mistral ship it, Unigram).
Vocabulary vocabulary_from_tokenizer_json(std::string_view json, const std::string& where);
// tiktoken ranks ("base64 rank" lines); merges are rebuilt from the ranks. pre: the pre-tokenizer's name.
Vocabulary vocabulary_from_tiktoken(std::string_view text, const std::string& pre, const std::string& where);
// GPT-2 style vocab.json + merges.txt.
Vocabulary vocabulary_from_vocab_merges(std::string_view vocab_json, std::string_view merges,
                                        const std::string& where);
// A directory: whichever of the above is there, then tokenizer_config.json, special_tokens_map.json,
// generation_config.json (eos lists) and added_tokens.json applied. n_vocab: rows of the embedding; missing ids up to it
// are filled with unused "[PAD…]" tokens, more tokens than rows is Error(kBadInput).
Vocabulary vocabulary_from_directory(const std::string& directory, size_t n_vocab);

}  // namespace tsubu
