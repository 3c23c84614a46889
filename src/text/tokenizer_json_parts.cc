#include "text/tokenizer_json_parts.h"

#include <fmt/ranges.h>

#include "text/base64.h"
#include "text/pre_tokenizer.h"
#include "text/sentencepiece_normalizer.h"
#include "text/vocabulary_edit.h"

namespace tsubu {
namespace {

std::string type_of(const JsonTree& component) { return json_string(json_at(component, "type")).value_or(""); }

void flatten_into(const JsonTree& component, const char* members, const std::string& where, int depth,
                  std::vector<const JsonTree*>& out) {
  constexpr int kMaxDepth = 8;
  if (component.is_null()) return;
  if (depth > kMaxDepth) fail(ExitCode::kBadInput, "{}: sequences are nested deeper than {} levels", where, kMaxDepth);
  if (type_of(component) != "Sequence") return out.push_back(&component);
  for (const JsonTree& member : json_at(component, members)) flatten_into(member, members, where, depth + 1, out);
}

struct Pattern {
  std::string text;
  bool is_regex = false;
};

Pattern pattern_of(const JsonTree& component) {
  const JsonTree& pattern = json_at(component, "pattern");
  if (const auto regex = json_string(json_at(pattern, "Regex"))) return {*regex, true};
  return {json_string(json_at(pattern, "String")).value_or(""), false};
}

// Line breaks and tabs as escapes: files differ in how they write them.
std::string with_escapes(std::string_view pattern) {
  std::string out;
  for (char c : pattern) {
    if (c == '\r')
      out += "\\r";
    else if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else
      out += c;
  }
  return out;
}

constexpr std::string_view kByteLevelRegex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kPunctuationRegex = R"([\p{P}\$\+<=>\^~\|`]+)";

}  // namespace

std::vector<const JsonTree*> flatten_sequence(const JsonTree& component, const char* members,
                                              const std::string& where) {
  std::vector<const JsonTree*> out;
  flatten_into(component, members, where, 0, out);
  return out;
}

bool has_component(const std::vector<const JsonTree*>& components, std::string_view type) {
  for (const JsonTree* component : components)
    if (type_of(*component) == type) return true;
  return false;
}

std::string recognize_pre_tokenizer(const std::vector<const JsonTree*>& components, bool ignore_merges,
                                    const std::string& where) {
  std::vector<std::string> patterns;
  for (const JsonTree* component : components) {
    const std::string type = type_of(*component);
    if (type == "ByteLevel") {
      if (json_flag(*component, "use_regex", true)) patterns.emplace_back(kByteLevelRegex);
    } else if (type == "Digits") {
      patterns.emplace_back(json_flag(*component, "individual_digits") ? R"(\p{N})" : R"(\p{N}+)");
    } else if (type == "Punctuation") {
      patterns.emplace_back(kPunctuationRegex);
    } else if (type == "Split") {
      const std::string behavior = json_string(json_at(*component, "behavior")).value_or("Isolated");
      // "Removed" of what does not match leaves the matches: the same where the pattern covers everything.
      if (behavior != "Isolated" && !(behavior == "Removed" && json_flag(*component, "invert")))
        fail(ExitCode::kUnsupported, "{}: a pre-tokenizer that splits with behavior '{}' is not supported", where,
             behavior);
      patterns.push_back(with_escapes(pattern_of(*component).text));
    } else {
      fail(ExitCode::kUnsupported, "{}: pre-tokenizer component '{}' is not supported", where, type);
    }
  }
  if (const PreTokenizerSpec* spec = find_pre_tokenizer_by_patterns(patterns, ignore_merges))
    return std::string(spec->names.front());
  fail(ExitCode::kUnsupported, "{}: no known pre-tokenizer has these patterns: {}", where, fmt::join(patterns, "   "));
}

void apply_normalizers(const std::vector<const JsonTree*>& components, Vocabulary& vocabulary,
                       const std::string& where) {
  for (const JsonTree* component : components) {
    const std::string type = type_of(*component);
    if (type == "NFC")
      vocabulary.normalizer = "nfc";
    else if (type == "NFD")
      vocabulary.normalizer = "nfd";
    else if (type == "NFKC")
      vocabulary.normalizer = "nfkc";
    else if (type == "NFKD")
      vocabulary.normalizer = "nfkd";
    else if (type == "Prepend")
      vocabulary.add_space_prefix = true;
    else if (type == "Strip")
      vocabulary.remove_extra_whitespaces = true;
    else if (type == "Replace") {
      const auto [text, is_regex] = pattern_of(*component);
      if (is_regex && (text == " {2,}" || text == "\\s+"))
        vocabulary.remove_extra_whitespaces = true;
      else if (text != " ")
        fail(ExitCode::kUnsupported, "{}: normalizer replaces '{}', which is not supported", where, text);
    } else if (type == "Precompiled") {
      const auto blob = decode_base64(json_string(json_at(*component, "precompiled_charsmap")).value_or(""));
      if (!blob) fail(ExitCode::kBadInput, "{}: precompiled_charsmap is not valid base64", where);
      const auto bytes = std::as_bytes(std::span(*blob));
      vocabulary.precompiled_charsmap.assign(bytes.begin(), bytes.end());
    } else {
      fail(ExitCode::kUnsupported, "{}: normalizer '{}' is not supported", where, type);
    }
  }
}

void apply_space_pre_tokenizers(const std::vector<const JsonTree*>& components, Vocabulary& vocabulary,
                                const std::string& where) {
  for (const JsonTree* component : components) {
    const std::string type = type_of(*component);
    if (type == "Metaspace") {
      const std::string scheme = json_string(json_at(*component, "prepend_scheme")).value_or("always");
      vocabulary.add_space_prefix = scheme != "never" && json_flag(*component, "add_prefix_space", true);
      vocabulary.prefix_after_special = scheme != "first";
      vocabulary.prefix_only_if_missing = true;
    } else if (type == "WhitespaceSplit") {
      vocabulary.remove_extra_whitespaces = true;
    } else if (type != "Split" || pattern_of(*component).text != " ") {
      fail(ExitCode::kUnsupported, "{}: pre-tokenizer component '{}' is not supported here", where, type);
    }
  }
}

void apply_post_processors(const std::vector<const JsonTree*>& components, Vocabulary& vocabulary) {
  for (const JsonTree* component : components) {
    if (type_of(*component) != "TemplateProcessing") continue;
    vocabulary.add_bos = vocabulary.add_eos = false;
    bool seen_text = false;
    for (const JsonTree& item : json_at(*component, "single")) {
      if (!json_at(item, "Sequence").is_null()) seen_text = true;
      const auto name = json_string(json_at(json_at(item, "SpecialToken"), "id"));
      const int32_t id = name ? find_token(vocabulary, *name) : -1;
      if (id < 0) continue;
      (seen_text ? vocabulary.eos : vocabulary.bos) = id;
      (seen_text ? vocabulary.add_eos : vocabulary.add_bos) = true;
    }
  }
}

}  // namespace tsubu
