// Pre-tokenizers of byte-level BPE: regexes that cut a text into words before any merging. One explicit list; a name is
// what GGUF calls tokenizer.ggml.pre.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/regex.h"

namespace tsubu {

struct PreTokenizerSpec {
  std::vector<std::string_view> names;
  // Applied one after the other: each cuts every piece so far into its matches and what stands between them.
  std::vector<std::string_view> patterns;
  bool ignore_merges = false;  // a word that is a token as it stands needs no merges to become it
  bool add_bos = false;        // what a GGUF without tokenizer.ggml.add_bos_token means
};

// The list. The first name of an entry is the one we write.
const std::vector<PreTokenizerSpec>& pre_tokenizer_specs();
const PreTokenizerSpec* find_pre_tokenizer(std::string_view name);  // nullptr when unknown
// Other spellings of an entry's patterns, to recognize it by.
struct PreTokenizerSpelling {
  std::string_view name;
  std::vector<std::string_view> patterns;
};
const std::vector<PreTokenizerSpelling>& pre_tokenizer_spellings();

// The entry with exactly these patterns (as a tokenizer.json spells them), preferably one with the same ignore_merges;
// nullptr when there is none.
const PreTokenizerSpec* find_pre_tokenizer_by_patterns(const std::vector<std::string>& patterns, bool ignore_merges);

class PreTokenizer {
 public:
  explicit PreTokenizer(const PreTokenizerSpec& spec);
  // The words of a text, in order, without gaps. Stretches of malformed UTF-8 are words of their own.
  std::vector<std::string_view> split(std::string_view text) const;

 private:
  std::vector<Regex> regexes_;
};

}  // namespace tsubu
