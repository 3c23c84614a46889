// The tokenizer of a Hugging Face model directory: the main file, then what the small JSON files beside it add.
#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "text/json_fields.h"
#include "text/tokenizer.h"
#include "text/vocabulary_edit.h"

namespace tsubu {
namespace {

// Ids beyond the main file's may leave holes, up to so many.
constexpr size_t kHolesAllowed = 65536;

struct Directory {
  std::string path;

  std::string file(const std::string& name) const { return (std::filesystem::path(path) / name).string(); }
  bool has(const std::string& name) const {
    std::error_code error;
    return std::filesystem::is_regular_file(file(name), error);
  }
  // Null when the file is not there.
  JsonTree json(const std::string& name) const {
    return has(name) ? parse_json_tree(read_text_file(file(name)), file(name)) : JsonTree();
  }
  std::optional<std::string> file_ending_with(std::string_view ending) const {
    std::vector<std::string> found;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(path, error))
      if (entry.path().filename().string().ends_with(ending)) found.push_back(entry.path().filename().string());
    if (found.empty()) return std::nullopt;
    return *std::min_element(found.begin(), found.end());
  }
};

// Llama 3 and others ship tiktoken ranks under the name tokenizer.model: lines "base64 rank".
bool looks_like_tiktoken(std::string_view text) {
  const std::string_view line = text.substr(0, std::min<size_t>(text.find('\n'), 256));
  return std::all_of(line.begin(), line.end(), [](char c) { return c == '\r' || (c >= ' ' && c <= '~'); }) &&
         line.find(' ') != std::string_view::npos;
}

// Ranks do not say how texts are cut; the model's type does, else who uses that file name.
std::string tiktoken_pre_tokenizer(const Directory& directory, const std::string& otherwise) {
  const std::string type = json_string(json_at(directory.json("config.json"), "model_type")).value_or("");
  return type.starts_with("qwen") ? "qwen2" : type.starts_with("llama") ? "llama-bpe" : otherwise;
}

Vocabulary read_main_file(const Directory& directory) {
  if (directory.has("tokenizer.model")) {
    const std::string where = directory.file("tokenizer.model"), content = read_text_file(where);
    if (!looks_like_tiktoken(content)) return vocabulary_from_sentencepiece(std::as_bytes(std::span(content)), where);
    if (!directory.has("tokenizer.json"))
      return vocabulary_from_tiktoken(content, tiktoken_pre_tokenizer(directory, "llama-bpe"), where);
  }
  if (directory.has("tokenizer.json")) {
    const std::string where = directory.file("tokenizer.json");
    return vocabulary_from_tokenizer_json(read_text_file(where), where);
  }
  if (const auto name = directory.file_ending_with(".tiktoken"))
    return vocabulary_from_tiktoken(read_text_file(directory.file(*name)), tiktoken_pre_tokenizer(directory, "qwen2"),
                                    directory.file(*name));
  if (directory.has("vocab.json") && directory.has("merges.txt"))
    return vocabulary_from_vocab_merges(read_text_file(directory.file("vocab.json")),
                                        read_text_file(directory.file("merges.txt")), directory.file("vocab.json"));
  fail(ExitCode::kBadInput,
       "{}: no tokenizer; expected tokenizer.model, tokenizer.json, *.tiktoken or vocab.json with merges.txt",
       directory.path);
}

// "<s>" or {"content": "<s>", …}.
std::optional<std::string> token_text(const JsonTree& value) {
  if (const auto text = json_string(value)) return text;
  return json_string(json_at(value, "content"));
}

// added_tokens.json does not say which tokens control the model: those in brackets do.
bool looks_special(std::string_view token) {
  return token.size() > 2 &&
         ((token.front() == '<' && token.back() == '>') || (token.front() == '[' && token.back() == ']'));
}

void read_added_tokens(const Directory& directory, const JsonTree& config, Vocabulary& vocabulary) {
  const size_t max_tokens = vocabulary.tokens.size() + kHolesAllowed;
  const JsonTree added = directory.json("added_tokens.json");
  if (added.is_object())
    for (const auto& [content, value] : added.items()) {
      const auto id = json_id(value);
      if (!id || content.empty())
        fail(ExitCode::kBadInput, "{}: '{}' has no token id", directory.file("added_tokens.json"), content);
      if (static_cast<size_t>(*id) >= vocabulary.tokens.size())
        add_token(vocabulary, {*id, content, looks_special(content)}, max_tokens, directory.file("added_tokens.json"));
    }
  const JsonTree& decoder = json_at(config, "added_tokens_decoder");
  if (!decoder.is_object()) return;
  for (const auto& [key, entry] : decoder.items()) {
    const bool is_number = !key.empty() && key.size() < 10 &&
                           std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; });
    const auto content = token_text(entry);
    if (!is_number || !content || content->empty())
      fail(ExitCode::kBadInput, "{}: added token '{}' has no id or no content", directory.file("tokenizer_config.json"),
           key);
    const int32_t id = std::stoi(key);
    // A SentencePiece model's own special pieces are listed here too; they keep their kind.
    const bool is_own = static_cast<size_t>(id) < vocabulary.tokens.size() &&
                        vocabulary.tokens[static_cast<size_t>(id)] == *content &&
                        vocabulary.types[static_cast<size_t>(id)] != TokenType::kNormal;
    if (!is_own)
      add_token(vocabulary,
                {id, *content, json_flag(entry, "special"), json_flag(entry, "lstrip"), json_flag(entry, "rstrip")},
                max_tokens, directory.file("tokenizer_config.json"));
  }
}

void apply_special_names(const JsonTree& config, Vocabulary& vocabulary) {
  const std::pair<const char*, int32_t*> names[] = {{"bos_token", &vocabulary.bos},
                                                    {"eos_token", &vocabulary.eos},
                                                    {"unk_token", &vocabulary.unk},
                                                    {"pad_token", &vocabulary.pad},
                                                    {"sep_token", &vocabulary.sep}};
  for (const auto& [key, id] : names)
    if (const auto text = token_text(json_at(config, key)))
      if (const int32_t found = find_token(vocabulary, *text); found >= 0) {
        *id = found;
        TokenType& type = vocabulary.types[static_cast<size_t>(found)];
        if (type == TokenType::kNormal || type == TokenType::kUserDefined) type = TokenType::kControl;
      }
  for (const JsonTree& entry : json_at(config, "additional_special_tokens"))
    if (const auto text = token_text(entry))
      if (const int32_t found = find_token(vocabulary, *text); found >= 0)
        vocabulary.types[static_cast<size_t>(found)] = TokenType::kControl;
}

void apply_end_ids(const JsonTree& config, Vocabulary& vocabulary) {
  const JsonTree& value = json_at(config, "eos_token_id");
  const auto keep = [&](const JsonTree& entry) {
    const auto id = json_id(entry);
    if (!id || static_cast<size_t>(*id) >= vocabulary.tokens.size() || *id == vocabulary.eos) return;
    if (vocabulary.eos < 0)
      vocabulary.eos = *id;
    else
      vocabulary.end_of_generation.push_back(*id);
  };
  if (value.is_array())
    for (const JsonTree& entry : value) keep(entry);
  else
    keep(value);
}

std::string chat_template_of(const Directory& directory, const JsonTree& config) {
  if (directory.has("chat_template.jinja")) return read_text_file(directory.file("chat_template.jinja"));
  const JsonTree& value = json_at(config, "chat_template");
  if (const auto text = json_string(value)) return *text;
  if (value.is_array())  // [{"name": "default", "template": "…"}, …]
    for (const JsonTree& entry : value)
      if (json_string(json_at(entry, "name")) == "default") return json_string(json_at(entry, "template")).value_or("");
  return {};
}

}  // namespace

Vocabulary vocabulary_from_directory(const std::string& path, size_t n_vocab) {
  const Directory directory{path};
  Vocabulary vocabulary = read_main_file(directory);
  if (vocabulary.types.empty()) vocabulary.types.assign(vocabulary.tokens.size(), TokenType::kNormal);
  const JsonTree config = directory.json("tokenizer_config.json");
  read_added_tokens(directory, config, vocabulary);
  apply_special_names(directory.json("special_tokens_map.json"), vocabulary);
  apply_special_names(config, vocabulary);
  if (const auto add = json_bool(json_at(config, "add_bos_token"))) vocabulary.add_bos = *add && vocabulary.bos >= 0;
  if (const auto add = json_bool(json_at(config, "add_eos_token"))) vocabulary.add_eos = *add && vocabulary.eos >= 0;
  // "legacy" tokenizers put a space after special tokens too; with a tokenizer.model, transformers takes a missing
  // entry for true. A tokenizer.json has said so itself.
  const bool otherwise = directory.has("tokenizer.json") ? vocabulary.prefix_after_special : true;
  if (config.is_object()) vocabulary.prefix_after_special = json_flag(config, "legacy", otherwise);
  apply_end_ids(directory.json(directory.has("generation_config.json") ? "generation_config.json" : "config.json"),
                vocabulary);
  vocabulary.chat_template = chat_template_of(directory, config);
  if (n_vocab > 0 && vocabulary.tokens.size() > n_vocab)
    fail(ExitCode::kBadInput, "{}: the tokenizer has {} tokens, the embedding only {} rows", path,
         vocabulary.tokens.size(), n_vocab);
  fill_holes(vocabulary, n_vocab);
  return vocabulary;
}

}  // namespace tsubu
