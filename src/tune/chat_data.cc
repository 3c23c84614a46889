#include "tune/chat_data.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/progress.h"

namespace tsubu {
namespace {

constexpr size_t kOpenWindows = 64;  // that may take one more example: the search stays short

std::string shown(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 100); }

std::string role_named(const std::string& from) {
  if (from == "human" || from == "user") return "user";
  if (from == "gpt" || from == "assistant" || from == "model" || from == "chatgpt" || from == "bing" || from == "bard") return "assistant";
  return from;
}

const std::string& text_at(const Json& object, const char* key, const std::string& where) {
  const auto it = object.find(key);
  if (it == object.end() || !it->is_string())
    fail(ExitCode::kBadInput, "{}: {}: expected a text, found {}", where, key, it == object.end() ? "nothing" : shown(*it));
  return it->get_ref<const std::string&>();
}

// Both spellings of a message → OpenAI's.
Json message_of(const Json& m, const std::string& where) {
  if (!m.is_object()) fail(ExitCode::kBadInput, "{}: expected a message, an object, found {}", where, shown(m));
  if (m.contains("from")) return {{"role", role_named(text_at(m, "from", where))}, {"content", text_at(m, "value", where)}};
  Json message = m;
  message["role"] = role_named(text_at(m, "role", where));
  const auto content = m.find("content");
  const bool calls = m.contains("tool_calls");
  if (content == m.end() ? !calls : !(content->is_string() || content->is_array() || (content->is_null() && calls)))
    fail(ExitCode::kBadInput, "{}: content: expected a text, found {}", where, content == m.end() ? "nothing" : shown(*content));
  return message;
}

Json messages_of(const Json& list, const std::string& where) {
  if (!list.is_array() || list.empty()) fail(ExitCode::kBadInput, "{}: expected a list of messages, found {}", where, shown(list));
  Json messages = Json::array();
  for (const Json& m : list) messages.push_back(message_of(m, where));
  return messages;
}

bool is_answer(const Json& message) {
  if (message["role"] != "assistant") return false;
  const auto weight = message.find("weight");
  return weight == message.end() || !weight->is_number() || weight->get<double>() != 0;
}

size_t common_prefix(const std::vector<TokenId>& a, const std::vector<TokenId>& b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

std::string token_text(const Vocabulary& v, int32_t id) {
  return id >= 0 && static_cast<size_t>(id) < v.tokens.size() ? v.tokens[static_cast<size_t>(id)] : "";
}

}  // namespace

uint64_t TuneWindow::n_targets() const {
  return static_cast<uint64_t>(std::count_if(targets.begin(), targets.end(), [](TokenId t) { return t >= 0; }));
}

ChatRecord chat_record(const Json& line, const std::string& where) {
  if (!line.is_object()) fail(ExitCode::kBadInput, "{}: expected a JSON object, found {}", where, shown(line));
  for (const char* key : {"messages", "conversations", "conversation"})
    if (line.contains(key)) return {messages_of(line[key], where + ": " + key), false};
  if (line.contains("prompt") && line.contains("completion")) {
    if (line["prompt"].is_array()) {
      Json messages = messages_of(line["prompt"], where + ": prompt");
      if (line["completion"].is_array())
        for (const Json& m : messages_of(line["completion"], where + ": completion")) messages.push_back(m);
      else
        messages.push_back({{"role", "assistant"}, {"content", text_at(line, "completion", where)}});
      return {std::move(messages), false};
    }
    return {Json::array({{{"role", "user"}, {"content", text_at(line, "prompt", where)}},
                         {{"role", "assistant"}, {"content", text_at(line, "completion", where)}}}),
            true};
  }
  if (line.contains("instruction") && line.contains("output")) {
    std::string asked = text_at(line, "instruction", where);
    if (line.contains("input") && line["input"].is_string() && !line["input"].get_ref<const std::string&>().empty())
      asked += "\n\n" + line["input"].get<std::string>();
    Json messages = Json::array();
    if (line.contains("system") && line["system"].is_string() && !line["system"].get_ref<const std::string&>().empty())
      messages.push_back({{"role", "system"}, {"content", line["system"]}});
    messages.push_back({{"role", "user"}, {"content", asked}});
    messages.push_back({{"role", "assistant"}, {"content", text_at(line, "output", where)}});
    return {std::move(messages), false};
  }
  fail(ExitCode::kBadInput,
       "{}: expected \"messages\", \"conversations\", \"prompt\" and \"completion\", or \"instruction\" and \"output\", found {}", where,
       shown(line));
}

ChatRenderer::ChatRenderer(const Model& model) : ChatRenderer(model.vocabulary(), model.vocabulary().chat_template) {}

ChatRenderer::ChatRenderer(const Vocabulary& vocabulary, const std::string& chat_template)
    : tokenizer_(Tokenizer::make(vocabulary)),
      template_(std::make_unique<chat::ChatTemplate>(chat_template, token_text(vocabulary, vocabulary.bos),
                                                     token_text(vocabulary, vocabulary.eos))) {}

std::vector<TokenId> ChatRenderer::encode(const std::string& text) const {
  const bool is_plain = template_->is_plain();
  std::vector<TokenId> tokens = tokenizer_->encode(text, is_plain, !is_plain);
  // An EOS that the vocabulary adds stands at an example's end only, and mark() sees to that.
  const Vocabulary& v = tokenizer_->vocabulary();
  if (is_plain && v.add_eos && !tokens.empty() && tokens.back() == v.eos) tokens.pop_back();
  return tokens;
}

std::string ChatRenderer::prompt(const ChatRecord& record, size_t n_messages) const {
  Json messages = Json::array();
  for (size_t i = 0; i < n_messages; ++i) messages.push_back(record.messages[i]);
  return template_->render({std::move(messages), nullptr, true, nullptr});
}

std::string ChatRenderer::whole(const ChatRecord& record, size_t n_messages) const {
  if (template_->is_plain()) {
    const Json& content = record.messages[n_messages - 1]["content"];
    const std::string answer = content.is_string() ? content.get<std::string>() : std::string();
    const std::string before = prompt(record, n_messages - 1);
    if (record.is_text) return before + answer;
    const auto is_space = [](char c) { return c == ' ' || c == '\n' || c == '\t'; };
    const bool joins = before.empty() || answer.empty() || is_space(before.back()) || is_space(answer.front());
    return before + (joins ? "" : " ") + answer + (n_messages > 2 ? "\n" : "");
  }
  Json messages = Json::array();
  for (size_t i = 0; i < n_messages; ++i) messages.push_back(record.messages[i]);
  return template_->render({std::move(messages), nullptr, false, nullptr});
}

// The tokens of the answer that is message `answer`, in an example whose text begins with whole(answer + 1).
void ChatRenderer::mark(const ChatRecord& record, size_t answer, ChatExample& example) const {
  const size_t begin = common_prefix(encode(prompt(record, answer)), example.tokens);
  size_t end = std::min(common_prefix(encode(whole(record, answer + 1)), example.tokens), example.tokens.size());
  for (size_t i = end; i > begin; --i)
    if (tokenizer_->is_end_of_generation(example.tokens[i - 1])) {
      end = i;
      break;
    }
  for (size_t i = begin; i < end; ++i) example.is_answer[i] = true;
}

std::vector<ChatExample> ChatRenderer::examples(const ChatRecord& record, const std::string& where) const {
  std::vector<size_t> answers;
  for (size_t i = 0; i < record.messages.size(); ++i)
    if (is_answer(record.messages[i])) answers.push_back(i);
  if (answers.empty()) return {};
  if (answers.front() == 0) fail(ExitCode::kBadInput, "{}: the first message is an assistant's: nothing asks for it", where);
  std::vector<ChatExample> examples;
  try {
    std::vector<std::string> texts;
    for (size_t i : answers) {
      texts.push_back(whole(record, i + 1));
      if (!texts.back().starts_with(prompt(record, i)))
        fail(ExitCode::kBadInput, "the chat template does not render message {} behind its own opening of a reply", i + 1);
    }
    const bool is_chain = std::all_of(texts.begin(), texts.end(), [&](const std::string& t) { return texts.back().starts_with(t); });
    const auto add = [&](const std::string& text, size_t first, size_t n) {
      ChatExample example;
      example.tokens = encode(text);
      example.is_answer.assign(example.tokens.size(), false);
      for (size_t i = first; i < first + n; ++i) mark(record, answers[i], example);
      // The reply's end is learned, too.
      const TokenId eos = tokenizer_->vocabulary().eos;
      const auto last = std::find(example.is_answer.rbegin(), example.is_answer.rend(), true);
      if (last != example.is_answer.rend() && eos >= 0) {
        const auto n_kept = static_cast<size_t>(example.is_answer.rend() - last);
        if (!tokenizer_->is_end_of_generation(example.tokens[n_kept - 1])) {
          example.tokens.resize(n_kept);
          example.is_answer.resize(n_kept);
          example.tokens.push_back(eos);
          example.is_answer.push_back(true);
        }
      }
      examples.push_back(std::move(example));
    };
    if (is_chain)
      add(texts.back(), 0, answers.size());
    else
      for (size_t i = 0; i < answers.size(); ++i) add(texts[i], i, 1);
  } catch (const Error& e) {
    if (e.code() != ExitCode::kBadInput) throw;
    fail(ExitCode::kBadInput, "{}: {}", where, e.what());
  }
  return examples;
}

std::vector<TuneWindow> text_windows(std::span<const std::vector<TokenId>> chunks) {
  std::vector<TuneWindow> windows;
  for (const std::vector<TokenId>& chunk : chunks) {
    TuneWindow w{chunk, {chunk.begin() + 1, chunk.end()}};
    w.targets.push_back(-1);
    windows.push_back(std::move(w));
  }
  return windows;
}

std::vector<TuneWindow> pack_examples(std::vector<ChatExample> examples, uint32_t context, bool pack, ChatData& counts) {
  std::vector<TuneWindow> windows;
  std::vector<size_t> open;  // windows with room, oldest first
  for (ChatExample& e : examples) {
    if (e.tokens.size() > context) {
      ++counts.n_cut;
      e.tokens.resize(context);
      e.is_answer.resize(context);
    }
    // The first token is no target: nothing comes before it.
    if (e.tokens.size() < 2 || std::find(e.is_answer.begin() + 1, e.is_answer.end(), true) == e.is_answer.end()) {
      ++counts.n_empty;
      continue;
    }
    auto place = pack ? std::find_if(open.begin(), open.end(), [&](size_t w) { return windows[w].tokens.size() + e.tokens.size() <= context; })
                      : open.end();
    if (place == open.end()) {
      if (open.size() == kOpenWindows) open.erase(open.begin());
      open.push_back(windows.size());
      windows.emplace_back();
      place = open.end() - 1;
    }
    TuneWindow& w = windows[*place];
    w.starts.push_back(static_cast<uint32_t>(w.tokens.size()));
    for (size_t i = 0; i < e.tokens.size(); ++i) {
      if (i > 0) w.targets[w.tokens.size() - 1] = e.is_answer[i] ? e.tokens[i] : -1;
      w.tokens.push_back(e.tokens[i]);
      w.targets.push_back(-1);
    }
    ++counts.n_examples;
  }
  return windows;
}

std::string windows_hash(std::span<const TuneWindow> windows) {
  std::string digests;
  for (const TuneWindow& w : windows)
    digests += hash_bytes(std::as_bytes(std::span(w.tokens))) + hash_bytes(std::as_bytes(std::span(w.targets))) +
               hash_bytes(std::as_bytes(std::span(w.starts)));
  return hash_bytes(std::as_bytes(std::span(digests)));
}

ChatData read_chat(const Model& model, std::span<const std::string> paths, uint32_t context, bool pack) {
  const ChatRenderer renderer(model);
  ChatData data;
  std::vector<ChatExample> examples;
  for (const std::string& path : paths) {
    const std::string text = read_text_file(path);
    uint64_t number = 0;
    for (size_t at = 0; at < text.size();) {
      throw_if_interrupted();
      const size_t end = std::min(text.find('\n', at), text.size());
      const std::string_view line = std::string_view(text).substr(at, end - at);
      at = end + 1;
      ++number;
      if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      const std::string where = fmt::format("{}:{}", path, number);
      ++data.n_records;
      for (ChatExample& e : renderer.examples(chat_record(parse_json(line, where), where), where)) examples.push_back(std::move(e));
    }
  }
  data.windows = pack_examples(std::move(examples), context, pack, data);
  if (data.windows.empty())
    fail(ExitCode::kUsage, "{}: no answer to learn from in {} record(s) within windows of {} tokens", paths.empty() ? "" : paths.front(),
         data.n_records, context);
  data.hash = windows_hash(data.windows);
  return data;
}

}  // namespace tsubu
