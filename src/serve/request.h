// The bodies of OpenAI's API as they come in: read, checked against limits, turned into jobs. A body never names a file.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "base/json.h"
#include "serve/job.h"

namespace tsubu::serve {

// A reply that is an error, in the form of OpenAI's API.
class ApiError : public std::runtime_error {
 public:
  ApiError(int s, const std::string& message, std::string p = "", std::string c = "")
      : std::runtime_error(message), status(s), param(std::move(p)), code(std::move(c)) {}
  const int status;
  const std::string param, code;
};
std::string error_body(int status, const std::string& message, const std::string& param = "", const std::string& code = "");

struct ApiPrompt {
  std::string text;
  std::vector<TokenId> tokens;
  bool is_tokens = false;
};

struct ApiRequest {
  bool is_chat = false;
  std::string model;
  std::vector<ApiPrompt> prompts;          // of completions
  Json messages, tools, template_extra;  // of chats
  size_t n = 1;
  bool is_streamed = false, wants_usage = false;
  bool has_max_tokens = false, has_seed = false;
  JobSpec job;  // what is common to all of its jobs
};

// Throws ApiError(400).
Json parse_body(const std::string& body);
ApiRequest parse_completion(const Json& body);
ApiRequest parse_chat(const Json& body);
// messages or prompt, and tokens to score after it, in job.given.
ApiRequest parse_score(const Json& body);

}  // namespace tsubu::serve
