#include "serve/request.h"

#include <charconv>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace tsubu::serve {
namespace {

constexpr size_t kMaxMessages = 4096, kMaxPrompts = 16, kMaxChoices = 16, kMaxStops = 16, kMaxStopBytes = 512, kMaxBiases = 1024,
                 kMaxTop = 20, kMaxTokens = 1 << 20;

[[noreturn]] void bad(const std::string& param, const std::string& message) { throw ApiError(400, message, param); }

// A field that is there and not null.
const Json* field(const Json& body, const char* name) {
  const auto it = body.find(name);
  return it == body.end() || it->is_null() ? nullptr : &*it;
}

double number(const Json& body, const char* name, double otherwise, double low, double high) {
  const Json* f = field(body, name);
  if (!f) return otherwise;
  const double x = f->is_number() ? f->get<double>() : std::nan("");
  if (!(x >= low && x <= high)) bad(name, fmt::format("'{}': expected a number from {} to {}", name, low, high));
  return x;
}

size_t count(const Json& body, const char* name, size_t otherwise, size_t low, size_t high) {
  const Json* f = field(body, name);
  if (!f) return otherwise;
  const bool is_whole = f->is_number_integer() && (f->is_number_unsigned() || f->get<int64_t>() >= 0);
  const uint64_t x = is_whole ? f->get<uint64_t>() : 0;
  if (!is_whole || x < low || x > high) bad(name, fmt::format("'{}': expected a whole number from {} to {}", name, low, high));
  return x;
}

bool flag(const Json& body, const char* name) {
  const Json* f = field(body, name);
  if (f && !f->is_boolean()) bad(name, fmt::format("'{}': expected true or false", name));
  return f && f->get<bool>();
}

std::string text(const Json& body, const char* name) {
  const Json* f = field(body, name);
  if (!f) return "";
  if (!f->is_string()) bad(name, fmt::format("'{}': expected a string", name));
  return f->get<std::string>();
}

// What clients send and this server cannot do: an answer that ignores it would be wrong.
void refuse(const Json& body, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (const Json* f = field(body, name); f && !(f->is_boolean() && !f->get<bool>()))
      bad(name, fmt::format("'{}' is not supported by this server", name));
}

std::vector<TokenId> token_ids(const Json& list, const char* name) {
  std::vector<TokenId> ids;
  if (list.size() > kMaxTokens) bad(name, fmt::format("'{}': more than {} tokens", name, kMaxTokens));
  for (const Json& id : list) {
    if (!id.is_number_integer() || id.get<double>() < 0 || id.get<double>() > std::numeric_limits<TokenId>::max())
      bad(name, fmt::format("'{}': expected token ids", name));
    ids.push_back(id.get<TokenId>());
  }
  return ids;
}

void read_stops(const Json& body, JobSpec& job) {
  const Json* f = field(body, "stop");
  if (!f) return;
  const Json list = f->is_string() ? Json::array({*f}) : *f;
  if (!list.is_array() || list.size() > kMaxStops) bad("stop", fmt::format("'stop': expected a string or at most {} of them", kMaxStops));
  for (const Json& s : list) {
    if (!s.is_string() || s.get<std::string>().empty() || s.get<std::string>().size() > kMaxStopBytes)
      bad("stop", fmt::format("'stop': expected strings of 1 to {} bytes", kMaxStopBytes));
    job.stops.push_back(s.get<std::string>());
  }
}

void read_biases(const Json& body, JobSpec& job) {
  const Json* f = field(body, "logit_bias");
  if (!f) return;
  if (!f->is_object() || f->size() > kMaxBiases) bad("logit_bias", fmt::format("'logit_bias': expected an object of at most {} tokens", kMaxBiases));
  for (const auto& [key, value] : f->items()) {
    TokenId id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    const double x = value.is_number() ? value.get<double>() : std::nan("");
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || !(x >= -100 && x <= 100))
      bad("logit_bias", "'logit_bias': expected token ids with numbers from -100 to 100");
    job.logit_bias[id] = static_cast<float>(x);
  }
}

ApiRequest common(const Json& body) {
  if (!body.is_object()) bad("", "expected a JSON object");
  ApiRequest r;
  r.model = text(body, "model");
  if (r.model.empty()) bad("model", "'model' is missing: GET /v1/models lists the names");
  r.n = count(body, "n", 1, 1, kMaxChoices);
  r.is_streamed = flag(body, "stream");
  if (const Json* options = field(body, "stream_options")) {
    if (!options->is_object()) bad("stream_options", "'stream_options': expected an object");
    r.wants_usage = flag(*options, "include_usage");
  }
  JobSpec& job = r.job;
  job.sampler.temperature = number(body, "temperature", 1, 0, 2);
  job.sampler.top_p = number(body, "top_p", 1, 0, 1);
  job.sampler.top_k = static_cast<uint32_t>(count(body, "top_k", 0, 0, 1 << 30));
  job.sampler.repeat_penalty = number(body, "repeat_penalty", 1, 0.01, 100);
  job.frequency_penalty = number(body, "frequency_penalty", 0, -2, 2);
  job.presence_penalty = number(body, "presence_penalty", 0, -2, 2);
  job.ignore_end = flag(body, "ignore_eos");
  if (const Json* seed = field(body, "seed")) {
    if (!seed->is_number_integer()) bad("seed", "'seed': expected a whole number");
    job.sampler.seed = seed->is_number_unsigned() ? seed->get<uint64_t>() : static_cast<uint64_t>(seed->get<int64_t>());
    r.has_seed = true;
  }
  read_stops(body, job);
  read_biases(body, job);
  return r;
}

void read_max_tokens(const Json& body, const char* name, ApiRequest& r) {
  if (!field(body, name)) return;
  r.has_max_tokens = true;
  r.job.max_tokens = count(body, name, 1, 1, kMaxTokens);
}

void read_messages(const Json& body, ApiRequest& r) {
  const Json* messages = field(body, "messages");
  if (!messages || !messages->is_array() || messages->empty() || messages->size() > kMaxMessages)
    bad("messages", fmt::format("'messages': expected a list of 1 to {} messages", kMaxMessages));
  for (const Json& m : *messages) {
    if (!m.is_object() || !field(m, "role") || !m["role"].is_string()) bad("messages", "'messages': expected objects with a 'role'");
    const Json* content = field(m, "content");
    if (!content) {
      if (!field(m, "tool_calls")) bad("messages", "'messages': expected a 'content' in each");
      continue;
    }
    if (!content->is_string() && !content->is_array()) bad("messages", "'messages': expected a 'content' that is text or a list of text parts");
    if (content->is_array())
      for (const Json& part : *content)
        if (!part.is_object() || !field(part, "text") || !part["text"].is_string())
          bad("messages", "'messages': only parts with 'text' are supported");
  }
  r.messages = *messages;
  if (const Json* tools = field(body, "tools")) {
    if (!tools->is_array()) bad("tools", "'tools': expected a list");
    if (!tools->empty()) r.tools = *tools;
  }
  if (const Json* extra = field(body, "chat_template_kwargs")) {
    if (!extra->is_object()) bad("chat_template_kwargs", "'chat_template_kwargs': expected an object");
    r.template_extra = *extra;
  }
}

void read_prompts(const Json& body, ApiRequest& r) {
  const Json* prompt = field(body, "prompt");
  if (!prompt) bad("prompt", "'prompt' is missing");
  if (prompt->is_string()) {
    r.prompts.push_back({prompt->get<std::string>(), {}, false});
    return;
  }
  if (!prompt->is_array() || prompt->empty()) bad("prompt", "'prompt': expected text, token ids, or a list of either");
  if ((*prompt)[0].is_number()) {
    r.prompts.push_back({"", token_ids(*prompt, "prompt"), true});
    return;
  }
  if (prompt->size() > kMaxPrompts) bad("prompt", fmt::format("'prompt': more than {} prompts", kMaxPrompts));
  for (const Json& p : *prompt) {
    if (p.is_string())
      r.prompts.push_back({p.get<std::string>(), {}, false});
    else if (p.is_array())
      r.prompts.push_back({"", token_ids(p, "prompt"), true});
    else
      bad("prompt", "'prompt': expected text, token ids, or a list of either");
  }
}

}  // namespace

std::string error_body(int status, const std::string& message, const std::string& param, const std::string& code) {
  const char* type = status == 401   ? "authentication_error"
                     : status == 429 ? "rate_limit_error"
                     : status >= 500 ? "server_error"
                                     : "invalid_request_error";
  Json json;
  json["error"]["message"] = message.empty() ? fmt::format("status {}", status) : message;
  json["error"]["type"] = type;
  json["error"]["param"] = param.empty() ? Json() : Json(param);
  json["error"]["code"] = code.empty() ? Json() : Json(code);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json parse_body(const std::string& body) {
  try {
    return parse_json(body, "the body");
  } catch (const Error& e) {
    throw ApiError(400, e.what());
  }
}

ApiRequest parse_completion(const Json& body) {
  ApiRequest r = common(body);
  refuse(body, {"echo", "suffix"});
  if (count(body, "best_of", 1, 1, kMaxChoices) > r.n) bad("best_of", "'best_of' is not supported by this server");
  read_prompts(body, r);
  read_max_tokens(body, "max_tokens", r);
  if (field(body, "logprobs") && !(field(body, "logprobs")->is_boolean() && !field(body, "logprobs")->get<bool>())) {
    r.job.wants_logprobs = true;
    r.job.n_top = count(body, "logprobs", 0, 0, kMaxTop);
  }
  return r;
}

ApiRequest parse_chat(const Json& body) {
  ApiRequest r = common(body);
  r.is_chat = true;
  refuse(body, {"functions", "function_call", "audio", "prediction"});
  if (const Json* format = field(body, "response_format"))
    if (!format->is_object() || text(*format, "type") != "text") bad("response_format", "'response_format': only type 'text' is supported");
  read_messages(body, r);
  read_max_tokens(body, "max_tokens", r);
  read_max_tokens(body, "max_completion_tokens", r);
  r.job.wants_logprobs = flag(body, "logprobs");
  r.job.n_top = count(body, "top_logprobs", 0, 0, kMaxTop);
  if (r.job.n_top > 0 && !r.job.wants_logprobs) bad("top_logprobs", "'top_logprobs' needs 'logprobs': true");
  return r;
}

ApiRequest parse_score(const Json& body) {
  ApiRequest r = common(body);
  r.is_chat = field(body, "messages") != nullptr;
  if (r.is_chat)
    read_messages(body, r);
  else
    read_prompts(body, r);
  if (r.prompts.size() > 1) bad("prompt", "'prompt': one at a time");
  const Json* tokens = field(body, "tokens");
  if (!tokens || !tokens->is_array() || tokens->empty()) bad("tokens", "'tokens': expected the ids of the text to score");
  r.job.given = token_ids(*tokens, "tokens");
  r.job.n_top = count(body, "top_logprobs", 1, 0, kMaxTop);
  return r;
}

}  // namespace tsubu::serve
