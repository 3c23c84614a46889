#include "chat/chat_template.h"

#include <ctime>

#include "base/error.h"
#include "chat/interpreter.h"

namespace tsubu::chat {
namespace {

std::string now_as(const std::string& format) {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::string out(256, '\0');
  out.resize(std::strftime(out.data(), out.size(), format.c_str(), &local));
  return out;
}

// The text of a message whose content may be a list of parts.
std::string content_text(const Json& message) {
  if (!message.contains("content") || message["content"].is_null()) return "";
  const Json& content = message["content"];
  if (content.is_string()) return content.get<std::string>();
  std::string text;
  for (const Json& part : content)
    if (part.is_object() && part.contains("text") && part["text"].is_string()) text += part["text"].get<std::string>();
  return text;
}

std::string plain(const Request& request) {
  const Json& messages = request.messages;
  if (messages.size() == 1 && messages[0]["role"] == "user") return content_text(messages[0]);
  std::string text;
  for (const Json& m : messages) {
    const std::string role = m["role"].get<std::string>();
    if (role == "system" || role == "developer")
      text += content_text(m) + "\n\n";
    else
      text += (role == "assistant" ? "Assistant: " : "User: ") + content_text(m) + "\n";
  }
  return request.add_generation_prompt ? text + "Assistant:" : text;
}

}  // namespace

ChatTemplate::ChatTemplate(const std::string& source, std::string bos, std::string eos)
    : is_plain_(source.empty()), block_(parse_template(source)), bos_(std::move(bos)), eos_(std::move(eos)) {}

std::string ChatTemplate::render(const Request& request) const {
  if (is_plain_) return plain(request);
  Entries variables;
  if (request.extra.is_object())
    for (const auto& [key, value] : request.extra.items()) variables.emplace_back(key, Value::from_json(value));
  const auto set = [&](const char* name, Value value) {
    std::erase_if(variables, [&](const auto& v) { return v.first == name; });
    variables.emplace_back(name, std::move(value));
  };
  // Templates of text models join strings: a list of text parts is given as their text.
  Json messages = request.messages;
  for (Json& m : messages)
    if (m.contains("content") && m["content"].is_array()) m["content"] = content_text(m);
  set("messages", Value::from_json(messages));
  set("tools", Value::from_json(request.tools));
  set("documents", Value());
  set("add_generation_prompt", request.add_generation_prompt);
  set("bos_token", bos_);
  set("eos_token", eos_);
  Context context;
  context.strftime_now = now_as;
  return chat::render(block_, std::move(variables), context);
}

std::vector<std::string> ChatTemplate::stops() const {
  return is_plain_ ? std::vector<std::string>{"\nUser:", "\nAssistant:"} : std::vector<std::string>{};
}

}  // namespace tsubu::chat
