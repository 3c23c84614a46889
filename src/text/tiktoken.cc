// Reads tiktoken files ("base64-of-the-bytes rank" per line) and GPT-2's vocab.json + merges.txt.
// Source: github.com/openai/tiktoken; special tokens from the tokenizers that Meta and Alibaba publish with the ranks.
#include <charconv>
#include <map>

#include "base/error.h"
#include "text/base64.h"
#include "text/byte_alphabet.h"
#include "text/json_fields.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"
#include "text/vocabulary_edit.h"

namespace tsubu {
namespace {

std::string_view next_line(std::string_view& text) {
  const size_t end = std::min(text.find('\n'), text.size());
  std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

// Every way to cut a token into two tokens is a merge of the token's rank: tiktoken merges whatever yields a token.
void merges_from_ranks(const std::vector<std::string>& bytes_by_rank, Vocabulary& vocabulary) {
  std::unordered_map<std::string_view, size_t> rank_of;
  for (size_t rank = 0; rank < bytes_by_rank.size(); ++rank) rank_of.try_emplace(bytes_by_rank[rank], rank);
  for (const std::string& bytes : bytes_by_rank) {
    std::map<std::pair<size_t, size_t>, size_t> cuts;  // (rank of left, rank of right) → where to cut
    for (size_t cut = 1; cut < bytes.size(); ++cut) {
      const std::string_view all = bytes;
      const auto left = rank_of.find(all.substr(0, cut));
      if (left == rank_of.end()) continue;
      const auto right = rank_of.find(all.substr(cut));
      if (right != rank_of.end()) cuts.emplace(std::pair{left->second, right->second}, cut);
    }
    for (const auto& [ranks, cut] : cuts)
      vocabulary.merges.emplace_back(bytes_to_alphabet(bytes.substr(0, cut)), bytes_to_alphabet(bytes.substr(cut)));
  }
}

void append_control(Vocabulary& vocabulary, std::string text) {
  vocabulary.tokens.push_back(std::move(text));
  vocabulary.types.push_back(TokenType::kControl);
}

// Llama 3.1's 256 control tokens (3.0 calls three of them reserved).
void add_llama3_tokens(Vocabulary& vocabulary) {
  constexpr int kControlTokens = 256;
  const auto first = static_cast<int32_t>(vocabulary.tokens.size());
  const std::map<int, std::string> named = {
      {0, "<|begin_of_text|>"},   {1, "<|end_of_text|>"},   {4, "<|finetune_right_pad_id|>"},
      {6, "<|start_header_id|>"}, {7, "<|end_header_id|>"}, {8, "<|eom_id|>"},
      {9, "<|eot_id|>"},          {10, "<|python_tag|>"}};
  for (int i = 0, reserved = 0; i < kControlTokens; ++i) {
    const auto found = named.find(i);
    append_control(vocabulary, found != named.end() ? found->second
                                                    : "<|reserved_special_token_" + std::to_string(reserved++) + "|>");
  }
  vocabulary.bos = first;
  vocabulary.eos = first + 1;
  vocabulary.eot = first + 9;
  vocabulary.add_bos = true;
}

void add_qwen_tokens(Vocabulary& vocabulary) {
  for (const char* token : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) append_control(vocabulary, token);
  vocabulary.eos = vocabulary.pad = static_cast<int32_t>(vocabulary.tokens.size()) - 3;
  vocabulary.eot = static_cast<int32_t>(vocabulary.tokens.size()) - 1;
}

Vocabulary byte_level_vocabulary(std::string pre) {
  Vocabulary vocabulary;
  vocabulary.kind = VocabularyKind::kByteLevelBpe;
  vocabulary.pre = std::move(pre);
  vocabulary.add_space_prefix = vocabulary.escape_whitespaces = false;
  return vocabulary;
}

}  // namespace

Vocabulary vocabulary_from_tiktoken(std::string_view text, const std::string& pre, const std::string& where) {
  std::vector<std::string> bytes_by_rank;
  for (size_t number = 1; !text.empty(); ++number) {
    const std::string_view line = next_line(text);
    if (line.empty()) continue;
    const size_t space = line.find(' ');
    const auto bytes = decode_base64(line.substr(0, std::min(space, line.size())));
    size_t rank = 0;
    const char* begin = line.data() + (space == std::string_view::npos ? line.size() : space + 1);
    const auto parsed = std::from_chars(begin, line.data() + line.size(), rank);
    const bool is_number = parsed.ec == std::errc() && parsed.ptr == line.data() + line.size();
    if (!bytes || bytes->empty() || !is_number)
      fail(ExitCode::kBadInput, "{}:{}: expected a token in base64, a space and its rank", where, number);
    if (rank != bytes_by_rank.size())
      fail(ExitCode::kBadInput, "{}:{}: rank {}, expected {} (ranks ascend by one)", where, number, rank,
           bytes_by_rank.size());
    bytes_by_rank.push_back(*bytes);
  }
  if (bytes_by_rank.empty()) fail(ExitCode::kBadInput, "{}: no ranks, expected a tiktoken file", where);

  Vocabulary vocabulary = byte_level_vocabulary(pre);
  for (const std::string& bytes : bytes_by_rank) vocabulary.tokens.push_back(bytes_to_alphabet(bytes));
  vocabulary.types.assign(vocabulary.tokens.size(), TokenType::kNormal);
  merges_from_ranks(bytes_by_rank, vocabulary);
  if (pre == "llama-bpe") add_llama3_tokens(vocabulary);
  if (pre == "qwen2") add_qwen_tokens(vocabulary);
  return vocabulary;
}

Vocabulary vocabulary_from_vocab_merges(std::string_view vocab_json, std::string_view merges,
                                        const std::string& where) {
  const JsonTree vocab = parse_json_tree(vocab_json, where);
  if (!vocab.is_object() || vocab.empty())
    fail(ExitCode::kBadInput, "{}: vocab.json is no object of token → id", where);
  Vocabulary vocabulary = byte_level_vocabulary("gpt-2");
  const size_t max_tokens = 2 * vocab.size() + 1024;
  for (const auto& [token, value] : vocab.items()) {
    const auto id = json_id(value);
    if (!id) fail(ExitCode::kBadInput, "{}: the id of token '{}' is no token id", where, token);
    // Tokens of the form "<|…|>" are not spelled from bytes but control the model.
    const bool is_control = token.size() > 4 && token.starts_with("<|") && token.ends_with("|>");
    place_token(vocabulary, *id, token, is_control ? TokenType::kControl : TokenType::kNormal, max_tokens, where);
  }
  fill_holes(vocabulary, 0);
  for (size_t number = 1; !merges.empty(); ++number) {
    const std::string_view line = next_line(merges);
    if (line.empty() || (number == 1 && line.starts_with("#version"))) continue;
    const size_t space = line.find(' ', 1);
    if (space == std::string_view::npos || space + 1 == line.size())
      fail(ExitCode::kBadInput, "{}: line {} of the merges is no pair of tokens", where, number);
    vocabulary.merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  vocabulary.eos = vocabulary.bos = find_token(vocabulary, "<|endoftext|>");
  return vocabulary;
}

}  // namespace tsubu
