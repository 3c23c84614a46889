// Changes that several readers make to a vocabulary: placing tokens at ids, adding special tokens, filling holes.
#pragma once

#include <string>
#include <string_view>

#include "text/vocabulary.h"

namespace tsubu {

struct AddedToken {
  int32_t id = -1;
  std::string content;
  bool special = false, strip_left = false, strip_right = false;
};

// Puts a token at an id, with holes (kUndefined, empty) before it where needed. max_tokens bounds the vocabulary by
// what its file can justify; `where` is for messages.
void place_token(Vocabulary& vocabulary, int32_t id, std::string text, TokenType type, size_t max_tokens,
                 const std::string& where);
// A special (control) or user-defined token, in the spelling in which texts are searched for it.
void add_token(Vocabulary& vocabulary, const AddedToken& token, size_t max_tokens, const std::string& where);
// Holes become unused "[PAD…]" tokens, as do missing ids up to n_tokens.
void fill_holes(Vocabulary& vocabulary, size_t n_tokens);
// Id of the token with this text, -1 for none; of several the first control token, else the first.
int32_t find_token(const Vocabulary& vocabulary, std::string_view text);

}  // namespace tsubu
