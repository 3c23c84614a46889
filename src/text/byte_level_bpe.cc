#include "text/byte_level_bpe.h"

#include "base/error.h"
#include "text/bpe_merge.h"
#include "text/byte_alphabet.h"
#include "text/normalize_text.h"

namespace tsubu {
namespace {

uint64_t pair_key(TokenId left, TokenId right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

const PreTokenizerSpec& spec_of(const Vocabulary& vocabulary) {
  const std::string& name = vocabulary.pre.empty() ? "default" : vocabulary.pre;
  if (const PreTokenizerSpec* spec = find_pre_tokenizer(name)) return *spec;
  fail(ExitCode::kUnsupported,
       "vocabulary: pre-tokenizer '{}' is not known; the nearest in meaning can be set in "
       "tokenizer.ggml.pre",
       name);
}

}  // namespace

ByteLevelBpe::ByteLevelBpe(Vocabulary vocabulary)
    : Tokenizer(std::move(vocabulary)), spec_(spec_of(vocabulary_)), pre_tokenizer_(spec_) {
  if (!vocabulary_.normalizer.empty()) normalize_text({}, vocabulary_.normalizer);  // refuses unknown ones early
  byte_ids_.fill(-1);
  bytes_.reserve(vocabulary_.tokens.size());
  for (size_t i = 0; i < vocabulary_.tokens.size(); ++i) {
    const TokenType type = vocabulary_.types[i];
    const std::string& token = vocabulary_.tokens[i];
    if (type == TokenType::kUnused) {
      bytes_.emplace_back();
      continue;
    }
    const auto byte = type == TokenType::kByte ? byte_of_token(token) : std::nullopt;
    bytes_.push_back(byte ? std::string(1, static_cast<char>(*byte)) : bytes_from_alphabet(token).value_or(token));
    if (type != TokenType::kNormal && type != TokenType::kUndefined && type != TokenType::kByte) continue;
    if (bytes_[i].size() != 1) continue;
    TokenId& id = byte_ids_[static_cast<uint8_t>(bytes_[i][0])];
    if (id < 0) id = static_cast<TokenId>(i);
  }
  if (spec_.ignore_merges) {
    for (size_t i = 0; i < bytes_.size(); ++i)
      if (vocabulary_.types[i] == TokenType::kNormal) whole_words_.emplace(bytes_[i], static_cast<TokenId>(i));
  }
  index_merges();
}

void ByteLevelBpe::index_merges() {
  TokenIndex index;
  for (size_t i = 0; i < vocabulary_.tokens.size(); ++i) index.emplace(vocabulary_.tokens[i], static_cast<TokenId>(i));
  const auto find = [&](const std::string& token) {
    const auto found = index.find(token);
    return found == index.end() ? -1 : found->second;
  };
  merges_.reserve(vocabulary_.merges.size());
  for (size_t rank = 0; rank < vocabulary_.merges.size(); ++rank) {
    const auto& [left, right] = vocabulary_.merges[rank];
    const TokenId l = find(left), r = find(right), both = find(left + right);
    if (l < 0 || r < 0 || both < 0)
      fail(ExitCode::kBadInput, "vocabulary: merge {} ('{}' + '{}') names a piece that is no token", rank, left, right);
    merges_.emplace(pair_key(l, r), RankedMerge{static_cast<uint32_t>(rank), both});
  }
}

void ByteLevelBpe::encode_run(std::string_view text, bool, std::vector<TokenId>& out) const {
  std::string normalized;
  if (!vocabulary_.normalizer.empty()) {
    normalized = normalize_text(text, vocabulary_.normalizer);
    text = normalized;
  }
  struct Span {
    size_t begin, end;
  };
  std::unordered_map<std::string_view, Span> seen;  // where in `out` the ids of a word stand
  for (std::string_view word : pre_tokenizer_.split(text)) {
    const auto [entry, is_new] = seen.try_emplace(word, Span{out.size(), out.size()});
    if (is_new) {
      encode_word(word, out);
      entry->second.end = out.size();
      continue;
    }
    for (size_t i = entry->second.begin; i < entry->second.end; ++i) out.push_back(out[i]);
  }
}

void ByteLevelBpe::encode_word(std::string_view word, std::vector<TokenId>& out) const {
  if (spec_.ignore_merges) {
    const auto whole = whole_words_.find(word);
    if (whole != whole_words_.end()) return out.push_back(whole->second);
  }
  std::vector<BpeSymbol> symbols(word.size());
  for (size_t i = 0; i < word.size(); ++i)
    symbols[i] = {static_cast<uint32_t>(i), 1, byte_ids_[static_cast<uint8_t>(word[i])]};
  merge_symbols(symbols, [&](const BpeSymbol& left, const BpeSymbol& right) -> std::optional<BpeMerge> {
    if (left.id < 0 || right.id < 0) return std::nullopt;
    const auto found = merges_.find(pair_key(left.id, right.id));
    if (found == merges_.end()) return std::nullopt;
    return BpeMerge{static_cast<double>(found->second.rank), found->second.id};
  });
  for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
    const TokenId id = symbols[static_cast<size_t>(i)].id;
    if (id >= 0)
      out.push_back(id);
    else if (vocabulary_.unk >= 0)
      out.push_back(vocabulary_.unk);  // a byte that the vocabulary lacks
  }
}

}  // namespace tsubu
