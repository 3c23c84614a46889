// From messages to the text that a model was trained on: the model's own chat template (Jinja2 as transformers renders
// it), or for a model without one a plain form:
//   <content of the system message>, a blank line; then for each message "User: …" or "Assistant: …" in lines of their
//   own, and "Assistant:" for the reply to come. Only one user message, the last: its text alone, to be continued.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "chat/ast.h"

namespace tsubu::chat {

struct Request {
  Json messages = Json::array();  // [{"role", "content", …}], as OpenAI's API has them
  Json tools;                     // null: none
  bool add_generation_prompt = true;
  Json extra;                     // further variables of the template (chat_template_kwargs)
};

class ChatTemplate {
 public:
  // source empty: the plain form. bos, eos: text of these tokens. Throws Error(kBadInput) with the line.
  ChatTemplate(const std::string& source, std::string bos, std::string eos);
  bool is_plain() const { return is_plain_; }
  // Thread-safe. Throws Error(kBadInput), also when the template refuses the messages.
  std::string render(const Request& request) const;
  // Texts that end a reply where no token does: of the plain form.
  std::vector<std::string> stops() const;

 private:
  bool is_plain_;
  Block block_;
  std::string bos_, eos_;
};

}  // namespace tsubu::chat
