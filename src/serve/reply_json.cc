#include "serve/reply_json.h"

namespace tsubu::serve {
namespace {

Json token_json(TokenId id, float logprob, const Tokenizer& tokenizer) {
  const std::string piece = tokenizer.piece(id);
  Json json;
  json["token"] = piece;
  json["id"] = id;
  json["logprob"] = logprob;
  json["bytes"] = Json::array();
  for (const char c : piece) json["bytes"].push_back(static_cast<int>(static_cast<unsigned char>(c)));
  return json;
}

Json object_of(const ReplyHead& head, bool is_chunk) {
  Json json;
  json["id"] = head.id;
  json["object"] = head.is_chat ? (is_chunk ? "chat.completion.chunk" : "chat.completion") : "text_completion";
  json["created"] = head.created;
  json["model"] = head.model;
  return json;
}

}  // namespace

Json token_list(const std::vector<TokenResult>& tokens, const Tokenizer& tokenizer) {
  Json list = Json::array();
  for (const TokenResult& t : tokens) {
    Json json = token_json(t.id, t.logprob, tokenizer);
    json["top_logprobs"] = Json::array();
    for (const auto& [id, logprob] : t.top) json["top_logprobs"].push_back(token_json(id, logprob, tokenizer));
    list.push_back(std::move(json));
  }
  return list;
}

Json logprobs_json(const ReplyHead& head, const std::vector<TokenResult>& tokens, const Tokenizer& tokenizer, size_t text_offset) {
  if (!head.wants_logprobs) return {};
  Json json;
  if (head.is_chat) {
    json["content"] = token_list(tokens, tokenizer);
    json["refusal"] = Json();
    return json;
  }
  json["tokens"] = json["token_logprobs"] = json["top_logprobs"] = json["text_offset"] = Json::array();
  for (const TokenResult& t : tokens) {
    json["tokens"].push_back(tokenizer.piece(t.id));
    json["token_logprobs"].push_back(t.logprob);
    Json top = Json::object();
    for (const auto& [id, logprob] : t.top) top[tokenizer.piece(id)] = logprob;
    json["top_logprobs"].push_back(std::move(top));
    json["text_offset"].push_back(text_offset);
    text_offset += tokenizer.piece(t.id).size();
  }
  return json;
}

Json chunk_json(const ReplyHead& head, size_t index, const std::string& text, Json logprobs, const std::string& finish, bool is_first) {
  Json choice;
  choice["index"] = index;
  if (head.is_chat) {
    choice["delta"] = Json::object();
    if (is_first) choice["delta"]["role"] = "assistant";
    if (is_first || !text.empty()) choice["delta"]["content"] = text;
  } else {
    choice["text"] = text;
  }
  choice["logprobs"] = std::move(logprobs);
  choice["finish_reason"] = finish.empty() ? Json() : Json(finish);
  Json json = object_of(head, true);
  json["choices"] = Json::array({std::move(choice)});
  return json;
}

Json choice_json(const ReplyHead& head, size_t index, const std::string& text, Json logprobs, const std::string& finish) {
  Json choice;
  choice["index"] = index;
  if (head.is_chat)
    choice["message"] = {{"role", "assistant"}, {"content", text}, {"refusal", Json()}};
  else
    choice["text"] = text;
  choice["logprobs"] = std::move(logprobs);
  choice["finish_reason"] = finish;
  return choice;
}

Json usage_json(size_t n_prompt, size_t n_cached, size_t n_generated) {
  return {{"prompt_tokens", n_prompt},
          {"completion_tokens", n_generated},
          {"total_tokens", n_prompt + n_generated},
          {"prompt_tokens_details", {{"cached_tokens", n_cached}}}};
}

}  // namespace tsubu::serve
