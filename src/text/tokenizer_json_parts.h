// Parts of a Hugging Face tokenizer.json: what stands before and after the model. Source: github.com/huggingface/
// tokenizers (normalizers, pre_tokenizers, processors).
#pragma once

#include <string>
#include <vector>

#include "text/json_fields.h"
#include "text/vocabulary.h"

namespace tsubu {

// Members of a component, with nested "Sequence"s unrolled; empty for null.
std::vector<const JsonTree*> flatten_sequence(const JsonTree& component, const char* members, const std::string& where);

// True when the components have a member of this type.
bool has_component(const std::vector<const JsonTree*>& components, std::string_view type);

// The pre-tokenizer's name for a byte-level tokenizer. Throws Error(kUnsupported) naming the regexes when the list has
// none like it.
std::string recognize_pre_tokenizer(const std::vector<const JsonTree*>& components, bool ignore_merges,
                                    const std::string& where);

// Normal forms, space prefix, character map and whitespace rules go into the vocabulary.
void apply_normalizers(const std::vector<const JsonTree*>& components, Vocabulary& vocabulary,
                       const std::string& where);
// The same for Metaspace and its like (SentencePiece kinds).
void apply_space_pre_tokenizers(const std::vector<const JsonTree*>& components, Vocabulary& vocabulary,
                                const std::string& where);
// BOS and EOS as the template around a single text says.
void apply_post_processors(const std::vector<const JsonTree*>& components, Vocabulary& vocabulary);

}  // namespace tsubu
