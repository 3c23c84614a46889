// For tests and fuzz targets: vocabularies made in code.
#pragma once

#include <fmt/format.h>

#include <initializer_list>
#include <string>

#include "text/byte_alphabet.h"
#include "text/tokenizer.h"

namespace tsubu {

inline void append_token(Vocabulary& v, std::string text, TokenType type, float score = 0) {
  v.tokens.push_back(std::move(text));
  v.types.push_back(type);
  v.scores.push_back(score);
}

// All 256 bytes, a few merges of letters, digits and spaces, "<|end|>" (control), "<sep>" and "  " (user-defined).
inline Vocabulary tiny_byte_level(const std::string& pre) {
  Vocabulary v;
  v.kind = VocabularyKind::kByteLevelBpe;
  v.pre = pre;
  for (int byte = 0; byte < 256; ++byte)
    append_token(v, bytes_to_alphabet(std::string(1, static_cast<char>(byte))), TokenType::kNormal);
  const auto merge = [&](const char* left, const char* right) {
    v.merges.emplace_back(bytes_to_alphabet(left), bytes_to_alphabet(right));
    append_token(v, v.merges.back().first + v.merges.back().second, TokenType::kNormal);
  };
  for (auto [left, right] : std::initializer_list<std::pair<const char*, const char*>>{{" ", "t"},
                                                                                       {"h", "e"},
                                                                                       {" t", "he"},
                                                                                       {"1", "2"},
                                                                                       {"12", "3"},
                                                                                       {"\n", "\n"},
                                                                                       {" ", " "},
                                                                                       {"  ", "  "},
                                                                                       {"a", "a"},
                                                                                       {"aa", "aa"},
                                                                                       {"aaaa", "aaaa"},
                                                                                       {"\xC3", "\xA9"},
                                                                                       {"\xE3", "\x81"},
                                                                                       {"'", "s"}})
    merge(left, right);
  append_token(v, "<|end|>", TokenType::kControl);
  append_token(v, "<sep>", TokenType::kUserDefined);
  append_token(v, "[PAD]", TokenType::kUnused);
  v.bos = v.eos = static_cast<int32_t>(v.tokens.size()) - 3;
  return v;
}

// <unk> <s> </s>, 256 byte tokens, pieces with scores, "<sep>" (user-defined); a space prefix.
inline Vocabulary tiny_sentencepiece(VocabularyKind kind) {
  Vocabulary v;
  v.kind = kind;
  append_token(v, "<unk>", TokenType::kUnknown);
  append_token(v, "<s>", TokenType::kControl);
  append_token(v, "</s>", TokenType::kControl);
  for (int byte = 0; byte < 256; ++byte) append_token(v, fmt::format("<0x{:02X}>", byte), TokenType::kByte);
  float score = -1;
  for (const char* piece : {"▁t", "he", "▁the", "▁▁", "▁▁▁▁", "in", "▁a", "er", "aa", "aaaa", "猫", "吾輩", "▁",
                            "t",  "h",  "e",    "a",  "i",    "n",  "r",  "1",  "2",  "吾",   "輩", "é",    "\n"})
    append_token(v, piece, TokenType::kNormal, score -= 1);
  append_token(v, "<sep>", TokenType::kUserDefined);
  v.unk = 0;
  v.bos = 1;
  v.eos = 2;
  return v;
}

}  // namespace tsubu
