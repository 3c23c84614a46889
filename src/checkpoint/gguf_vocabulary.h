// A vocabulary as GGUF metadata (tokenizer.ggml.*, tokenizer.chat_template), both ways.
#pragma once

#include "container/gguf.h"
#include "text/vocabulary.h"

namespace tsubu {

// kNone when the metadata hold no tokenizer. Missing keys mean what llama.cpp takes them to mean. Throws
// Error(kBadInput) on lists of unequal length or ids outside the vocabulary.
Vocabulary vocabulary_from_gguf(const GgufMetadata& metadata);
void vocabulary_to_gguf(const Vocabulary& vocabulary, GgufMetadata& metadata);

}  // namespace tsubu
