#include "text/sentencepiece_unigram.h"

#include <algorithm>

#include "text/utf8.h"

namespace tsubu {

SentencePieceUnigram::SentencePieceUnigram(Vocabulary vocabulary)
    : Tokenizer(std::move(vocabulary)), normalize_(vocabulary_), byte_tokens_(vocabulary_) {
  constexpr float kUnknownPenalty = 10.0f;
  std::vector<std::pair<std::string_view, int32_t>> entries;
  float lowest = 0;
  bool has_normal = false;
  for (size_t i = 0; i < vocabulary_.tokens.size(); ++i) {
    const TokenType type = vocabulary_.types[i];
    if (type != TokenType::kNormal && type != TokenType::kUserDefined && type != TokenType::kUndefined) continue;
    entries.emplace_back(vocabulary_.tokens[i], static_cast<int32_t>(i));
    lowest = has_normal ? std::min(lowest, vocabulary_.scores[i]) : vocabulary_.scores[i];
    has_normal = true;
  }
  pieces_ = ByteTrie(std::move(entries));
  unknown_score_ = lowest - kUnknownPenalty;
}

void SentencePieceUnigram::encode_run(std::string_view text, bool is_first, std::vector<TokenId>& out) const {
  const std::string normalized = normalize_(text, is_first);
  const std::string_view run = normalized;
  struct Best {
    float score = 0;
    uint32_t length = 0;  // of the last piece, in bytes; 0: not reached
    TokenId id = -1;
  };
  std::vector<Best> best(run.size() + 1);  // best way to each byte position
  const auto offer = [&](size_t from, size_t length, TokenId id, float score) {
    Best& target = best[from + length];
    const float total = best[from].score + score;
    if (target.length == 0 || total > target.score) target = {total, static_cast<uint32_t>(length), id};
  };
  for (size_t at = 0; at < run.size();) {
    const size_t char_length = std::max<size_t>(utf8_char_length(run, at), 1);
    bool has_single = false;
    pieces_.visit_prefixes(run.substr(at), [&](size_t length, int32_t id) {
      offer(at, length, id, vocabulary_.scores[static_cast<size_t>(id)]);
      has_single |= length == char_length;
    });
    if (!has_single) offer(at, char_length, -1, unknown_score_);
    at += char_length;
  }
  std::vector<std::pair<size_t, TokenId>> path;  // begin of each piece, last piece first
  for (size_t end = run.size(); end > 0;) {
    const Best& last = best[end];
    path.emplace_back(end - last.length, last.id);
    end -= last.length;
  }
  std::reverse(path.begin(), path.end());
  for (size_t i = 0; i < path.size(); ++i) {
    const auto [begin, id] = path[i];
    const size_t end = i + 1 < path.size() ? path[i + 1].first : run.size();
    if (id >= 0)
      out.push_back(id);
    else
      byte_tokens_.spell(run.substr(begin, end - begin), out);
  }
}

std::string SentencePieceUnigram::piece_bytes(TokenId id) const {
  const auto i = static_cast<size_t>(id);
  const std::string& token = vocabulary_.tokens[i];
  if (vocabulary_.types[i] == TokenType::kUnused) return {};
  if (vocabulary_.types[i] == TokenType::kByte) {
    const auto byte = byte_of_token(token);
    return byte ? std::string(1, static_cast<char>(*byte)) : std::string();
  }
  return vocabulary_.escape_whitespaces ? unescape_meta_space(token) : token;
}

}  // namespace tsubu
