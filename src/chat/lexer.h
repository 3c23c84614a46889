// A template's source cut into text, marks and words.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "chat/value.h"

namespace tsubu::chat {

enum class TokenKind { kText, kBlockBegin, kBlockEnd, kPrintBegin, kPrintEnd, kName, kNumber, kString, kOperator, kEnd };

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int line = 0;
  std::string text;  // of kText and kString: what it means; else as written
  Value value;       // of kNumber
};

// Whitespace control is applied, comments and the marks of raw blocks are gone. Throws Error(kBadInput) with the line.
std::vector<Token> tokenize_template(std::string_view source);

}  // namespace tsubu::chat
