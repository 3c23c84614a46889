#include "text/special_matcher.h"

namespace tsubu {
namespace {

std::vector<bool> as_flags(const std::vector<int32_t>& ids, size_t n) {
  std::vector<bool> flags(n, false);
  for (int32_t id : ids)
    if (id >= 0 && static_cast<size_t>(id) < n) flags[static_cast<size_t>(id)] = true;
  return flags;
}

}  // namespace

SpecialMatcher::SpecialMatcher(const Vocabulary& vocabulary)
    : strip_left_(as_flags(vocabulary.strip_left, vocabulary.tokens.size())),
      strip_right_(as_flags(vocabulary.strip_right, vocabulary.tokens.size())) {
  std::vector<std::pair<std::string_view, int32_t>> user_defined, all;
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const TokenType type = vocabulary.types[i];
    const bool is_user_defined = type == TokenType::kUserDefined;
    if (!is_user_defined && type != TokenType::kControl && type != TokenType::kUnknown) continue;
    const std::pair<std::string_view, int32_t> entry{vocabulary.tokens[i], static_cast<int32_t>(i)};
    all.push_back(entry);
    if (is_user_defined) user_defined.push_back(entry);
  }
  user_defined_ = ByteTrie(std::move(user_defined));
  all_ = ByteTrie(std::move(all));
}

std::optional<SpecialMatcher::Match> SpecialMatcher::find(std::string_view text, size_t from,
                                                          bool parse_special) const {
  const ByteTrie& trie = parse_special ? all_ : user_defined_;
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!trie.starts_some_key(text[begin])) continue;
    size_t length = 0;
    int32_t id = -1;
    trie.visit_prefixes(text.substr(begin), [&](size_t n, int32_t value) {
      length = n;
      id = value;
    });
    if (id < 0) continue;
    const auto i = static_cast<size_t>(id);
    return Match{begin, begin + length, id, strip_left_[i], strip_right_[i]};
  }
  return std::nullopt;
}

}  // namespace tsubu
