#include "checkpoint/gguf_vocabulary.h"

#include <algorithm>
#include <cctype>

#include "base/error.h"
#include "text/pre_tokenizer.h"

namespace tsubu {
namespace {

struct KindName {
  VocabularyKind kind;
  std::string_view name;  // tokenizer.ggml.model
};
constexpr KindName kKinds[] = {
    {VocabularyKind::kSentencePieceBpe, "llama"},
    {VocabularyKind::kSentencePieceUnigram, "t5"},
    {VocabularyKind::kByteLevelBpe, "gpt2"},
    {VocabularyKind::kWordPiece, "bert"},
    {VocabularyKind::kNone, "none"},
};

struct IdKey {
  int32_t Vocabulary::*id;
  const char* key;
};
constexpr IdKey kIds[] = {
    {&Vocabulary::bos, "tokenizer.ggml.bos_token_id"},     {&Vocabulary::eos, "tokenizer.ggml.eos_token_id"},
    {&Vocabulary::unk, "tokenizer.ggml.unknown_token_id"}, {&Vocabulary::sep, "tokenizer.ggml.seperator_token_id"},
    {&Vocabulary::pad, "tokenizer.ggml.padding_token_id"}, {&Vocabulary::eot, "tokenizer.ggml.eot_token_id"},
};

const std::string* text_at(const GgufMetadata& metadata, const char* key) {
  const GgufValue* value = metadata.find(key);
  return value ? value->as_string() : nullptr;
}

void read_flag(const GgufMetadata& metadata, const char* key, bool& flag) {
  if (const GgufValue* value = metadata.find(key))
    if (const auto b = value->as_bool()) flag = *b;
}

// Ids of the special tokens that a file without the keys is taken to have.
void set_default_ids(Vocabulary& v) {
  if (v.kind == VocabularyKind::kSentencePieceBpe) {
    v.bos = 1;
    v.eos = 2;
    v.unk = 0;
    v.add_bos = true;
  } else if (v.kind == VocabularyKind::kSentencePieceUnigram) {
    v.eos = 1;
    v.unk = 2;
    v.pad = 0;
    v.add_eos = true;
  } else if (v.kind == VocabularyKind::kByteLevelBpe) {
    v.bos = v.eos = 11;
    v.add_space_prefix = v.escape_whitespaces = false;
  }
}

// Phi-3's special tokens swallow the whitespace after them; GGUF has no key for it, only the model's name tells.
void set_strips(const GgufMetadata& metadata, Vocabulary& v) {
  const std::string* name = text_at(metadata, "general.name");
  if (!name) return;
  std::string lower = *name;
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower.find("phi-3") == std::string::npos && lower.find("phi3") == std::string::npos) return;
  for (size_t i = 0; i < v.tokens.size() && i < v.types.size(); ++i) {
    const bool is_special = v.types[i] == TokenType::kControl || v.types[i] == TokenType::kUserDefined;
    if (!is_special || v.tokens[i] == "<s>" || v.tokens[i] == "<|endoftext|>") continue;
    v.strip_right.push_back(static_cast<int32_t>(i));
  }
}

}  // namespace

Vocabulary vocabulary_from_gguf(const GgufMetadata& metadata) {
  Vocabulary v;
  const std::string* model = text_at(metadata, "tokenizer.ggml.model");
  if (!model) return v;
  bool known = false;
  const bool is_gemma4 = *model == "gemma4";  // SentencePiece's shape, merged by ranks
  if (is_gemma4) {
    v.kind = VocabularyKind::kSentencePieceBpe;
    known = true;
  }
  for (const KindName& k : kKinds)
    if (k.name == *model) {
      v.kind = k.kind;
      known = true;
    }
  if (!known)
    fail(ExitCode::kUnsupported, "tokenizer.ggml.model \"{}\": expected llama, gpt2, t5, bert or none", *model);
  if (v.kind == VocabularyKind::kNone) return v;

  const GgufValue* tokens = metadata.find("tokenizer.ggml.tokens");
  const GgufArray* token_array = tokens ? tokens->as_array() : nullptr;
  if (!token_array || token_array->element_type != GgufValueType::kString)
    fail(ExitCode::kBadInput, "tokenizer.ggml.tokens: expected an array of strings");
  v.tokens = token_array->strings;
  const size_t n = v.tokens.size();
  if (const GgufValue* scores = metadata.find("tokenizer.ggml.scores"))
    for (double score : scores->as_numbers()) v.scores.push_back(static_cast<float>(score));
  if (const GgufValue* types = metadata.find("tokenizer.ggml.token_type"))
    for (int64_t type : types->as_ints())
      v.types.push_back(type >= 0 && type <= 6 ? static_cast<TokenType>(type) : TokenType::kUndefined);
  if (!v.scores.empty() && v.scores.size() != n)
    fail(ExitCode::kBadInput, "tokenizer.ggml.scores: expected {} as there are tokens, found {}", n, v.scores.size());
  if (!v.types.empty() && v.types.size() != n)
    fail(ExitCode::kBadInput, "tokenizer.ggml.token_type: expected {} as there are tokens, found {}", n,
         v.types.size());
  if (const GgufValue* merges = metadata.find("tokenizer.ggml.merges"))
    if (const GgufArray* list = merges->as_array())
      for (const std::string& merge : list->strings) {
        const size_t space = merge.find(' ', 1);  // a piece may itself begin with a space
        if (space == std::string::npos)
          fail(ExitCode::kBadInput, "tokenizer.ggml.merges: \"{}\" is no pair of pieces", merge);
        v.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
      }
  if (const std::string* pre = text_at(metadata, "tokenizer.ggml.pre")) v.pre = *pre;
  if (v.pre.empty() && v.kind == VocabularyKind::kByteLevelBpe) v.pre = "default";

  if (is_gemma4) {
    v.pre = "gemma4";
    v.add_space_prefix = false;
    v.add_bos = true;
  } else {
    set_default_ids(v);
  }
  if (v.kind == VocabularyKind::kByteLevelBpe)
    if (const PreTokenizerSpec* spec = find_pre_tokenizer(v.pre)) v.add_bos = spec->add_bos;
  for (const IdKey& k : kIds) {
    if (const GgufValue* value = metadata.find(k.key)) {
      const auto id = value->as_uint();
      v.*(k.id) = id && *id < n ? static_cast<int32_t>(*id) : -1;
    } else if (v.*(k.id) >= 0 && static_cast<size_t>(v.*(k.id)) >= n) {
      v.*(k.id) = -1;
    }
  }
  read_flag(metadata, "tokenizer.ggml.add_bos_token", v.add_bos);
  read_flag(metadata, "tokenizer.ggml.add_eos_token", v.add_eos);
  v.add_bos = (v.add_bos || is_gemma4) && v.bos >= 0;
  v.add_eos = v.add_eos && v.eos >= 0;
  read_flag(metadata, "tokenizer.ggml.add_space_prefix", v.add_space_prefix);
  read_flag(metadata, "tokenizer.ggml.remove_extra_whitespaces", v.remove_extra_whitespaces);
  if (const GgufValue* value = metadata.find("tokenizer.ggml.eom_token_id"))  // ends a message
    if (const auto id = value->as_uint(); id && *id < n) v.end_of_generation.push_back(static_cast<int32_t>(*id));
  set_strips(metadata, v);
  if (const GgufValue* charsmap = metadata.find("tokenizer.ggml.precompiled_charsmap"))
    if (const GgufArray* bytes = charsmap->as_array()) v.precompiled_charsmap = bytes->packed;
  if (const std::string* chat = text_at(metadata, "tokenizer.chat_template")) v.chat_template = *chat;
  return v;
}

void vocabulary_to_gguf(const Vocabulary& v, GgufMetadata& metadata) {
  for (const KindName& k : kKinds)
    if (k.kind == v.kind && v.pre == "gemma4")
      metadata.set("tokenizer.ggml.model", GgufValue::string("gemma4"));
    else if (k.kind == v.kind)
      metadata.set("tokenizer.ggml.model", GgufValue::string(std::string(k.name)));
  if (v.kind == VocabularyKind::kNone) return;
  metadata.set("tokenizer.ggml.pre", GgufValue::string(v.pre.empty() ? "default" : v.pre));
  metadata.set("tokenizer.ggml.tokens", GgufValue::strings(v.tokens));
  if (!v.scores.empty()) metadata.set("tokenizer.ggml.scores", GgufValue::f32s(v.scores));
  std::vector<int32_t> types;
  for (TokenType type : v.types) types.push_back(static_cast<int32_t>(type));
  if (!types.empty()) metadata.set("tokenizer.ggml.token_type", GgufValue::i32s(types));
  if (!v.merges.empty()) {
    std::vector<std::string> merges;
    merges.reserve(v.merges.size());
    for (const auto& [left, right] : v.merges) merges.push_back(left + " " + right);
    metadata.set("tokenizer.ggml.merges", GgufValue::strings(std::move(merges)));
  }
  for (const IdKey& k : kIds)
    if (v.*(k.id) >= 0) metadata.set(k.key, GgufValue::u32(static_cast<uint32_t>(v.*(k.id))));
  // Of several ends of generation the keys hold one beside EOS; readers know the others by their names.
  for (int32_t id : v.end_of_generation) {
    if (v.eot >= 0 || id == v.eos || id < 0) continue;
    metadata.set("tokenizer.ggml.eot_token_id", GgufValue::u32(static_cast<uint32_t>(id)));
    break;
  }
  metadata.set("tokenizer.ggml.add_bos_token", GgufValue::boolean(v.add_bos));
  metadata.set("tokenizer.ggml.add_eos_token", GgufValue::boolean(v.add_eos));
  if (v.kind != VocabularyKind::kByteLevelBpe) {
    metadata.set("tokenizer.ggml.add_space_prefix", GgufValue::boolean(v.add_space_prefix));
    metadata.set("tokenizer.ggml.remove_extra_whitespaces", GgufValue::boolean(v.remove_extra_whitespaces));
  }
  if (!v.precompiled_charsmap.empty()) {
    GgufArray bytes;
    bytes.element_type = GgufValueType::kU8;
    bytes.packed = v.precompiled_charsmap;
    metadata.set("tokenizer.ggml.precompiled_charsmap", {GgufValueType::kArray, std::move(bytes)});
  }
  if (!v.chat_template.empty()) metadata.set("tokenizer.chat_template", GgufValue::string(v.chat_template));
}

}  // namespace tsubu
