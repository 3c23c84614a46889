// A template as a tree: what the parser makes and the interpreter walks.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chat/value.h"

namespace tsubu::chat {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

enum class ExpressionKind {
  kConstant,    // value
  kName,        // text
  kList,        // operands; tuples too
  kDict,        // operands: key, value, key, value …
  kAttribute,   // operands[0].text
  kItem,        // operands[0][operands[1]]
  kSlice,       // operands[0][operands[1] : operands[2] : operands[3]], nullptr where left out
  kCall,        // operands[0](operands[1…], named)
  kFilter,      // operands[0] | text(operands[1…], named)
  kTest,        // operands[0] is text(operands[1…])
  kUnary,       // text: "not", "-", "+"
  kBinary,      // text: "+", "and", "==", "not in" …
  kConditional  // operands: then, condition, else (nullptr when left out)
};

struct Expression {
  ExpressionKind kind = ExpressionKind::kConstant;
  int line = 0, depth = 0;  // of the tree below
  std::string text;
  Value value;
  std::vector<ExpressionPtr> operands;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
};

struct Statement;
using Block = std::vector<Statement>;

enum class StatementKind {
  kText,      // text as it is
  kPrint,     // expression
  kIf,        // expression; body; otherwise
  kFor,       // names in expression [if condition]: body; otherwise
  kSet,       // names (or name.attribute) = expression, or = body [through the filters of `expression`]
  kMacro,     // text(names with defaults): body
  kCallBlock, // expression (a call) with body as caller()
  kFilter,    // body through the filters of `expression`
  kBreak,
  kContinue,
  kScope      // body
};

struct Statement {
  StatementKind kind = StatementKind::kText;
  int line = 0;
  std::string text;  // of kText; name of a macro; attribute that kSet writes
  std::vector<std::string> names;
  std::vector<ExpressionPtr> defaults;  // of a macro's parameters, by name; nullptr when there is none
  ExpressionPtr expression, condition;
  Block body, otherwise;
  bool has_body = false;  // kSet: from a block
};

// The text that a filter block or a set block is given stands for this name in its filters.
inline constexpr std::string_view kBlockName = "\x01" "block";

// Throws Error(kBadInput) with the line. Source: Jinja2's documentation, with trim_blocks and lstrip_blocks as
// transformers sets them.
Block parse_template(std::string_view source);

}  // namespace tsubu::chat
