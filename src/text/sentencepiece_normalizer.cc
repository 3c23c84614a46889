#include "text/sentencepiece_normalizer.h"

#include "text/normalize_text.h"

namespace tsubu {

SentencePieceNormalizer::SentencePieceNormalizer(const Vocabulary& vocabulary)
    : charsmap_(vocabulary.precompiled_charsmap),
      add_prefix_(vocabulary.add_space_prefix),
      only_if_missing_(vocabulary.prefix_only_if_missing),
      collapse_(vocabulary.remove_extra_whitespaces),
      escape_(vocabulary.escape_whitespaces),
      form_(vocabulary.normalizer) {}

std::string SentencePieceNormalizer::operator()(std::string_view text, bool with_prefix) const {
  std::string composed, mapped;
  if (!form_.empty()) {
    composed = normalize_text(text, form_);
    text = composed;
  }
  if (!charsmap_.empty()) {
    mapped = charsmap_.apply(text);
    text = mapped;
  }
  if (collapse_ && !text.empty()) {
    const size_t first = text.find_first_not_of(' ');
    if (first == std::string_view::npos) return {};
    text = text.substr(first, text.find_last_not_of(' ') - first + 1);
  }
  const std::string_view space = escape_ ? kMetaSpace : std::string_view(" ");
  std::string out;
  out.reserve(text.size() + text.size() / 2 + space.size());
  const bool has_space = text.starts_with(' ') || text.starts_with(space);
  if (with_prefix && add_prefix_ && !(only_if_missing_ && has_space)) out += space;
  bool after_space = false;
  for (char c : text) {
    if (c != ' ')
      out += c;
    else if (!collapse_ || !after_space)
      out += space;
    after_space = c == ' ';
  }
  // SentencePiece looks for trailing spaces after escaping: a U+2581 that stood in the text goes too.
  std::string_view kept = out;
  while (collapse_ && !text.empty() && kept.ends_with(space)) kept.remove_suffix(space.size());
  out.erase(kept.size());
  return out;
}

std::string unescape_meta_space(std::string_view token) {
  std::string out;
  for (size_t at = 0; at < token.size();) {
    if (token.substr(at).starts_with(kMetaSpace)) {
      out += ' ';
      at += kMetaSpace.size();
    } else {
      out += token[at++];
    }
  }
  return out;
}

}  // namespace tsubu
