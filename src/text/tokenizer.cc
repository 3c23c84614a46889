// What all tokenizers share: special tokens are cut out of the text, the runs between them go to the kind's encode_run.
#include "text/tokenizer.h"

#include <cmath>

#include "base/error.h"
#include "text/byte_level_bpe.h"
#include "text/end_of_generation.h"
#include "text/sentencepiece_bpe.h"
#include "text/sentencepiece_unigram.h"
#include "text/special_matcher.h"

namespace tsubu {
namespace {

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

void check_id(int32_t id, size_t n_tokens, const char* name) {
  if (id >= -1 && (id < 0 || static_cast<size_t>(id) < n_tokens)) return;
  fail(ExitCode::kBadInput, "vocabulary: the {} token is id {}, expected one of its {} tokens", name, id, n_tokens);
}

Vocabulary checked(Vocabulary v) {
  const size_t n = v.tokens.size();
  if (n == 0) fail(ExitCode::kBadInput, "vocabulary: it has no tokens");
  if (n > static_cast<size_t>(INT32_MAX)) fail(ExitCode::kBadInput, "vocabulary: {} tokens do not fit 32-bit ids", n);
  if (v.types.empty()) v.types.assign(n, TokenType::kNormal);
  if (v.types.size() != n) fail(ExitCode::kBadInput, "vocabulary: {} tokens but {} token types", n, v.types.size());
  if (v.scores.empty()) v.scores.assign(n, 0.0f);
  if (v.scores.size() != n) fail(ExitCode::kBadInput, "vocabulary: {} tokens but {} scores", n, v.scores.size());
  for (size_t i = 0; i < n; ++i)
    if (std::isnan(v.scores[i])) fail(ExitCode::kBadInput, "vocabulary: the score of token {} is not a number", i);
  check_id(v.bos, n, "BOS");
  check_id(v.eos, n, "EOS");
  check_id(v.unk, n, "unknown");
  check_id(v.sep, n, "separator");
  check_id(v.pad, n, "padding");
  check_id(v.eot, n, "end-of-turn");
  if (v.add_bos && v.bos < 0) fail(ExitCode::kBadInput, "vocabulary: BOS is to be added, but no token is the BOS");
  if (v.add_eos && v.eos < 0) fail(ExitCode::kBadInput, "vocabulary: EOS is to be added, but no token is the EOS");
  return v;
}

}  // namespace

Tokenizer::Tokenizer(Vocabulary vocabulary)
    : vocabulary_(std::move(vocabulary)),
      specials_(std::make_unique<const SpecialMatcher>(vocabulary_)),
      ends_generation_(end_of_generation_flags(vocabulary_)) {}

Tokenizer::~Tokenizer() = default;

std::unique_ptr<Tokenizer> Tokenizer::make(Vocabulary vocabulary) {
  switch (vocabulary.kind) {
    case VocabularyKind::kSentencePieceBpe:
      return std::make_unique<SentencePieceBpe>(checked(std::move(vocabulary)));
    case VocabularyKind::kSentencePieceUnigram:
      return std::make_unique<SentencePieceUnigram>(checked(std::move(vocabulary)));
    case VocabularyKind::kByteLevelBpe:
      return std::make_unique<ByteLevelBpe>(checked(std::move(vocabulary)));
    case VocabularyKind::kWordPiece:
      fail(ExitCode::kUnsupported, "vocabulary: WordPiece (BERT) tokenizers are not supported");
    case VocabularyKind::kNone:
      break;
  }
  fail(ExitCode::kUnsupported, "vocabulary: the model has no tokenizer; give one (--tokenizer)");
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, bool add_special, bool parse_special) const {
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 4 + 8);
  if (add_special && vocabulary_.add_bos) ids.push_back(vocabulary_.bos);
  bool is_first = true;
  for (size_t at = 0; at < text.size();) {
    const auto match = specials_->find(text, at, parse_special);
    size_t end = match ? match->begin : text.size();
    if (match && match->strip_left)
      while (end > at && is_space(text[end - 1])) --end;
    if (end > at) {
      encode_run(text.substr(at, end - at), is_first, ids);
      is_first = false;
    }
    if (!match) break;
    // The SentencePiece library puts its prefix before the text even where that begins with a user-defined symbol.
    const bool is_symbol = vocabulary_.types[static_cast<size_t>(match->id)] == TokenType::kUserDefined;
    if (is_first && is_symbol && prefixes_space() && !vocabulary_.prefix_after_special) encode_run({}, true, ids);
    ids.push_back(match->id);
    is_first = vocabulary_.prefix_after_special;
    at = match->end;
    if (match->strip_right)
      while (at < text.size() && is_space(text[at])) ++at;
  }
  if (add_special && vocabulary_.add_eos) ids.push_back(vocabulary_.eos);
  return ids;
}

// Takes back the space prefix of every run that encode gave one: at the start of the text and after special tokens.
std::string Tokenizer::decode(std::span<const TokenId> ids, bool special) const {
  std::string text;
  bool is_first = true;
  for (TokenId id : ids) {
    const std::string bytes = piece(id, special);
    if (is_printed_special(id)) {
      text += bytes;
      if (!bytes.empty()) is_first = vocabulary_.prefix_after_special;
      continue;
    }
    const bool drop = is_first && prefixes_space() && bytes.starts_with(' ');
    text += std::string_view(bytes).substr(drop ? 1 : 0);
    if (!bytes.empty()) is_first = false;
  }
  return text;
}

bool Tokenizer::is_printed_special(TokenId id) const {
  if (id < 0 || static_cast<size_t>(id) >= n_tokens()) return false;
  const TokenType type = vocabulary_.types[static_cast<size_t>(id)];
  return type == TokenType::kControl || type == TokenType::kUnknown || type == TokenType::kUserDefined;
}

std::string Tokenizer::piece(TokenId id, bool special) const {
  if (id < 0 || static_cast<size_t>(id) >= n_tokens()) return {};
  const auto i = static_cast<size_t>(id);
  switch (vocabulary_.types[i]) {
    case TokenType::kControl:
    case TokenType::kUnknown:
      return special ? vocabulary_.tokens[i] : std::string();
    case TokenType::kUserDefined:
      return vocabulary_.tokens[i];
    default:
      return piece_bytes(id);
  }
}

bool Tokenizer::is_control(TokenId id) const {
  if (id < 0 || static_cast<size_t>(id) >= n_tokens()) return false;
  return vocabulary_.types[static_cast<size_t>(id)] == TokenType::kControl;
}

bool Tokenizer::is_end_of_generation(TokenId id) const {
  return id >= 0 && static_cast<size_t>(id) < n_tokens() && ends_generation_[static_cast<size_t>(id)];
}

}  // namespace tsubu
