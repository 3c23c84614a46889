// Reads Hugging Face's tokenizer.json: byte-level BPE, BPE with byte fallback (Llama, Mistral, Gemma) and unigram.
#include <algorithm>
#include <cmath>

#include "text/byte_tokens.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json_parts.h"
#include "text/vocabulary_edit.h"

namespace tsubu {
namespace {

// Ids need not be dense, but a hole costs memory: as many holes as tokens, and some.
constexpr size_t kHolesAllowed = 65536;

std::vector<AddedToken> read_added_tokens(const JsonTree& list, const std::string& where) {
  std::vector<AddedToken> tokens;
  for (const JsonTree& entry : list) {
    const auto id = json_id(json_at(entry, "id"));
    const auto content = json_string(json_at(entry, "content"));
    if (!id || !content || content->empty())
      fail(ExitCode::kBadInput, "{}: added token {} has no id or no content", where, tokens.size());
    tokens.push_back(
        {*id, *content, json_flag(entry, "special"), json_flag(entry, "lstrip"), json_flag(entry, "rstrip")});
  }
  return tokens;
}

void read_bpe_vocab(const JsonTree& vocab, size_t max_tokens, Vocabulary& vocabulary, const std::string& where) {
  if (!vocab.is_object()) fail(ExitCode::kBadInput, "{}: model.vocab is no object, expected token → id", where);
  const bool is_byte_level = vocabulary.kind == VocabularyKind::kByteLevelBpe;
  for (const auto& [token, value] : vocab.items()) {
    const auto id = json_id(value);
    if (!id) fail(ExitCode::kBadInput, "{}: the id of token '{}' is no token id", where, token);
    const bool is_taken =
        static_cast<size_t>(*id) < vocabulary.tokens.size() && !vocabulary.tokens[static_cast<size_t>(*id)].empty();
    if (is_taken)
      fail(ExitCode::kBadInput, "{}: tokens '{}' and '{}' share id {}", where, token,
           vocabulary.tokens[static_cast<size_t>(*id)], *id);
    const bool is_byte = !is_byte_level && byte_of_token(token).has_value();
    place_token(vocabulary, *id, token, is_byte ? TokenType::kByte : TokenType::kNormal, max_tokens, where);
  }
}

void read_merges(const JsonTree& merges, Vocabulary& vocabulary, const std::string& where) {
  for (const JsonTree& merge : merges) {
    std::optional<std::string> left, right;
    if (const auto line = json_string(merge)) {
      const size_t space = line->find(' ', 1);
      if (space != std::string::npos) {
        left = line->substr(0, space);
        right = line->substr(space + 1);
      }
    } else if (merge.is_array() && merge.size() == 2) {
      left = json_string(merge[0]);
      right = json_string(merge[1]);
    }
    if (!left || !right || left->empty() || right->empty())
      fail(ExitCode::kBadInput, "{}: merge {} is no pair of tokens", where, vocabulary.merges.size());
    vocabulary.merges.emplace_back(std::move(*left), std::move(*right));
  }
}

// Scores that order the merges as their ranks do, for readers that know scores only.
void scores_from_merges(Vocabulary& vocabulary) {
  std::unordered_map<std::string, size_t> rank_of;
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank)
    rank_of.try_emplace(vocabulary.merges[rank].first + vocabulary.merges[rank].second, rank);
  vocabulary.scores.assign(vocabulary.tokens.size(), 0.0f);
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    if (vocabulary.types[i] != TokenType::kNormal) continue;
    const auto found = rank_of.find(vocabulary.tokens[i]);
    vocabulary.scores[i] = -static_cast<float>(found == rank_of.end() ? vocabulary.merges.size() : found->second);
  }
}

void read_bpe(const JsonTree& root, const JsonTree& model, size_t max_tokens, Vocabulary& vocabulary,
              const std::string& where) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!json_string(json_at(model, key)).value_or("").empty())
      fail(ExitCode::kUnsupported, "{}: model.{} is not supported", where, key);
  const auto pre_tokenizers = flatten_sequence(json_at(root, "pre_tokenizer"), "pretokenizers", where);
  const auto decoders = flatten_sequence(json_at(root, "decoder"), "decoders", where);
  const bool is_byte_level = has_component(pre_tokenizers, "ByteLevel") || has_component(decoders, "ByteLevel");
  vocabulary.add_space_prefix = false;
  if (is_byte_level) {
    vocabulary.kind = VocabularyKind::kByteLevelBpe;
    vocabulary.escape_whitespaces = false;
    vocabulary.pre = recognize_pre_tokenizer(pre_tokenizers, json_flag(model, "ignore_merges"), where);
  } else {
    vocabulary.kind = VocabularyKind::kSentencePieceBpe;
    vocabulary.pre = "default";
    apply_space_pre_tokenizers(pre_tokenizers, vocabulary, where);
  }
  read_bpe_vocab(json_at(model, "vocab"), max_tokens, vocabulary, where);
  read_merges(json_at(model, "merges"), vocabulary, where);
  const auto unknown = json_string(json_at(model, "unk_token"));
  if (unknown) vocabulary.unk = find_token(vocabulary, *unknown);
  if (is_byte_level) return;
  scores_from_merges(vocabulary);
  if (vocabulary.unk >= 0) vocabulary.types[static_cast<size_t>(vocabulary.unk)] = TokenType::kUnknown;
}

void read_unigram(const JsonTree& root, const JsonTree& model, Vocabulary& vocabulary, const std::string& where) {
  vocabulary.kind = VocabularyKind::kSentencePieceUnigram;
  vocabulary.pre = "default";
  vocabulary.add_space_prefix = false;
  apply_space_pre_tokenizers(flatten_sequence(json_at(root, "pre_tokenizer"), "pretokenizers", where), vocabulary,
                             where);
  for (const JsonTree& entry : json_at(model, "vocab")) {
    const auto token = entry.is_array() && entry.size() == 2 ? json_string(entry[0]) : std::nullopt;
    if (!token || !entry[1].is_number())
      fail(ExitCode::kBadInput, "{}: entry {} of model.vocab is no [token, score]", where, vocabulary.tokens.size());
    vocabulary.types.push_back(byte_of_token(*token) ? TokenType::kByte : TokenType::kNormal);
    vocabulary.tokens.push_back(*token);
    vocabulary.scores.push_back(entry[1].get<float>());
  }
  vocabulary.unk = json_id(json_at(model, "unk_id")).value_or(-1);
  if (vocabulary.unk >= 0 && static_cast<size_t>(vocabulary.unk) >= vocabulary.tokens.size())
    fail(ExitCode::kBadInput, "{}: model.unk_id is {}, expected one of {} tokens", where, vocabulary.unk,
         vocabulary.tokens.size());
  if (vocabulary.unk >= 0) vocabulary.types[static_cast<size_t>(vocabulary.unk)] = TokenType::kUnknown;
}

// A tokenizer.json alone does not say which tokens begin and end a text; these names do.
int32_t first_of(const Vocabulary& vocabulary, std::initializer_list<std::string_view> names) {
  for (std::string_view name : names) {
    const int32_t id = find_token(vocabulary, name);
    if (id >= 0 && vocabulary.types[static_cast<size_t>(id)] == TokenType::kControl) return id;
  }
  return -1;
}

}  // namespace

Vocabulary vocabulary_from_tokenizer_json(std::string_view json, const std::string& where) {
  const JsonTree root = parse_json_tree(json, where);
  const JsonTree& model = json_at(root, "model");
  if (!model.is_object()) fail(ExitCode::kBadInput, "{}: no \"model\", expected a Hugging Face tokenizer.json", where);
  const std::vector<AddedToken> added = read_added_tokens(json_at(root, "added_tokens"), where);
  const JsonTree& vocab = json_at(model, "vocab");
  const size_t max_tokens = 2 * (vocab.size() + added.size()) + kHolesAllowed;

  std::string type = json_string(json_at(model, "type")).value_or("");
  if (type.empty()) type = !json_at(model, "merges").is_null() ? "BPE" : vocab.is_array() ? "Unigram" : "";
  Vocabulary vocabulary;
  if (type == "BPE")
    read_bpe(root, model, max_tokens, vocabulary, where);
  else if (type == "Unigram")
    read_unigram(root, model, vocabulary, where);
  else
    fail(ExitCode::kUnsupported, "{}: tokenizer model '{}' is not supported (BPE and Unigram are)", where, type);

  apply_normalizers(flatten_sequence(json_at(root, "normalizer"), "normalizers", where), vocabulary, where);
  for (const AddedToken& token : added) add_token(vocabulary, token, max_tokens, where);
  if (vocabulary.tokens.empty()) fail(ExitCode::kBadInput, "{}: the vocabulary is empty", where);
  fill_holes(vocabulary, 0);
  vocabulary.bos = first_of(vocabulary, {"<s>", "<bos>", "<|begin_of_text|>", "<｜begin▁of▁sentence｜>"});
  vocabulary.eos = first_of(vocabulary, {"</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>", "<｜end▁of▁sentence｜>"});
  apply_post_processors(flatten_sequence(json_at(root, "post_processor"), "processors", where), vocabulary);
  return vocabulary;
}

}  // namespace tsubu
