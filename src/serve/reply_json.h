// The JSON of replies in OpenAI's form.
#pragma once

#include "base/json.h"
#include "serve/job.h"

namespace tsubu::serve {

// What all parts of a reply share.
struct ReplyHead {
  bool is_chat = false, wants_logprobs = false;
  std::string id, model;  // the model's name as the client gave it
  int64_t created = 0;
};

// {"token", "id", "logprob", "bytes", "top_logprobs"} of tokens.
Json token_list(const std::vector<TokenResult>& tokens, const Tokenizer& tokenizer);
// logprobs of a choice; text_offset: characters before these tokens (completions only).
Json logprobs_json(const ReplyHead& head, const std::vector<TokenResult>& tokens, const Tokenizer& tokenizer, size_t text_offset);
// A chunk of a stream with one choice. finish empty: there is more.
Json chunk_json(const ReplyHead& head, size_t index, const std::string& text, Json logprobs, const std::string& finish, bool is_first);
Json choice_json(const ReplyHead& head, size_t index, const std::string& text, Json logprobs, const std::string& finish);
Json usage_json(size_t n_prompt, size_t n_cached, size_t n_generated);

}  // namespace tsubu::serve
