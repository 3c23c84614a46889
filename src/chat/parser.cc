#include <algorithm>
#include <array>

#include "base/error.h"
#include "chat/ast.h"
#include "chat/lexer.h"

namespace tsubu::chat {
namespace {

constexpr int kMaxNesting = 100;  // of expressions and blocks
constexpr int kMaxDepth = 300;    // of an expression's tree: a sum of n terms is n deep

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Block run() {
    Block block = statements({});
    return block;
  }

 private:
  const Token& now() const { return tokens_[at_]; }
  const Token& ahead(size_t n) const { return tokens_[std::min(at_ + n, tokens_.size() - 1)]; }
  bool is(TokenKind kind, std::string_view text) const { return now().kind == kind && now().text == text; }
  bool is_operator(std::string_view text) const { return is(TokenKind::kOperator, text); }
  bool is_name(std::string_view text) const { return is(TokenKind::kName, text); }
  [[noreturn]] void bad(const std::string& what) const {
    fail(ExitCode::kBadInput, "chat template: line {}: {}", now().line, what);
  }
  bool take(TokenKind kind, std::string_view text) {
    if (!is(kind, text)) return false;
    ++at_;
    return true;
  }
  bool take_operator(std::string_view text) { return take(TokenKind::kOperator, text); }
  bool take_name(std::string_view text) { return take(TokenKind::kName, text); }
  void expect_operator(std::string_view text) {
    if (!take_operator(text)) bad(fmt::format("expected '{}', found '{}'", text, now().text));
  }
  void expect(TokenKind kind, std::string_view what) {
    if (now().kind != kind) bad(fmt::format("expected {}, found '{}'", what, now().text));
    ++at_;
  }
  std::string name() {
    if (now().kind != TokenKind::kName) bad(fmt::format("expected a name, found '{}'", now().text));
    return tokens_[at_++].text;
  }

  struct Nesting {
    explicit Nesting(Parser& p) : parser(p) {
      if (++parser.depth_ > kMaxNesting) {
        --parser.depth_;
        parser.bad(fmt::format("nested deeper than {} levels", kMaxNesting));
      }
    }
    ~Nesting() { --parser.depth_; }
    Parser& parser;
  };

  ExpressionPtr make(ExpressionKind kind, std::string text = "") const {
    auto e = std::make_unique<Expression>();
    e->kind = kind;
    e->line = now().line;
    e->text = std::move(text);
    return e;
  }
  ExpressionPtr make(ExpressionKind kind, std::string text, ExpressionPtr a, ExpressionPtr b = nullptr) const {
    auto e = make(kind, std::move(text));
    e->depth = std::max(a->depth, b ? b->depth : 0) + 1;
    if (e->depth > kMaxDepth) bad(fmt::format("an expression of more than {} levels", kMaxDepth));
    e->operands.push_back(std::move(a));
    if (b) e->operands.push_back(std::move(b));
    return e;
  }

  // Statements up to a block that starts with one of `ends`; the block's mark and that word are taken.
  Block statements(std::initializer_list<std::string_view> ends, std::string* found = nullptr) {
    const Nesting nesting(*this);
    Block block;
    while (now().kind != TokenKind::kEnd) {
      Statement s;
      s.line = now().line;
      if (now().kind == TokenKind::kText) {
        s.text = tokens_[at_++].text;
        block.push_back(std::move(s));
      } else if (now().kind == TokenKind::kPrintBegin) {
        ++at_;
        s.kind = StatementKind::kPrint;
        s.expression = tuple();
        expect(TokenKind::kPrintEnd, "'}}'");
        block.push_back(std::move(s));
      } else {
        expect(TokenKind::kBlockBegin, "'{%'");
        const std::string word = name();
        if (std::find(ends.begin(), ends.end(), word) != ends.end()) {
          if (found) *found = word;
          return block;
        }
        statement(word, s);
        block.push_back(std::move(s));
      }
    }
    if (ends.size() > 0) bad(fmt::format("the template ends without {}", *(ends.end() - 1)));
    return block;
  }

  void end_block() { expect(TokenKind::kBlockEnd, "'%}'"); }
  Block body(std::string_view end) {
    end_block();
    Block block = statements({end});
    end_block();
    return block;
  }

  void statement(const std::string& word, Statement& s) {
    if (word == "if") {
      if_statement(s);
    } else if (word == "for") {
      for_statement(s);
    } else if (word == "set") {
      set_statement(s);
    } else if (word == "macro") {
      s.kind = StatementKind::kMacro;
      s.text = name();
      signature(s);
      s.body = body("endmacro");
    } else if (word == "call") {
      s.kind = StatementKind::kCallBlock;
      if (is_operator("(")) signature(s);
      s.expression = expression();
      if (s.expression->kind != ExpressionKind::kCall) bad("expected a call after 'call'");
      s.body = body("endcall");
    } else if (word == "filter") {
      s.kind = StatementKind::kFilter;
      s.expression = filters(make(ExpressionKind::kName, std::string(kBlockName)), true);
      s.body = body("endfilter");
    } else if (word == "generation") {
      s.kind = StatementKind::kScope;
      s.body = body("endgeneration");
    } else if (word == "break" || word == "continue") {
      s.kind = word == "break" ? StatementKind::kBreak : StatementKind::kContinue;
      if (loops_ == 0) bad(fmt::format("'{}' outside of a loop", word));
      end_block();
    } else {
      bad(fmt::format("'{}' is no statement of chat templates", word));
    }
  }

  void if_statement(Statement& s) {
    s.kind = StatementKind::kIf;
    s.expression = tuple();
    end_block();
    std::string end;
    s.body = statements({"elif", "else", "endif"}, &end);
    if (end == "elif") {
      const Nesting nesting(*this);
      Statement other;
      other.line = now().line;
      if_statement(other);
      s.otherwise.push_back(std::move(other));
      return;
    }
    if (end == "else") {
      end_block();
      s.otherwise = statements({"endif"});
    }
    end_block();
  }

  void for_statement(Statement& s) {
    s.kind = StatementKind::kFor;
    s.names = targets();
    if (!take_name("in")) bad("expected 'in'");
    s.expression = tuple(false);
    if (take_name("if")) s.condition = expression();
    if (is_name("recursive")) bad("recursive loops are not supported");
    end_block();
    std::string end;
    ++loops_;
    s.body = statements({"else", "endfor"}, &end);
    --loops_;
    if (end == "else") {
      end_block();
      s.otherwise = statements({"endfor"});
    }
    end_block();
  }

  std::vector<std::string> targets() {
    const bool in_brackets = take_operator("(");
    std::vector<std::string> names = {name()};
    while (take_operator(",")) {
      if (now().kind != TokenKind::kName) break;
      names.push_back(name());
    }
    if (in_brackets) expect_operator(")");
    return names;
  }

  void set_statement(Statement& s) {
    s.kind = StatementKind::kSet;
    s.names = targets();
    if (s.names.size() == 1 && take_operator(".")) s.text = name();
    if (take_operator("=")) {
      s.expression = tuple();
      end_block();
      return;
    }
    s.has_body = true;
    if (is_operator("|")) s.expression = filters(make(ExpressionKind::kName, std::string(kBlockName)), false);
    s.body = body("endset");
  }

  void signature(Statement& s) {
    expect_operator("(");
    while (!take_operator(")")) {
      if (!s.names.empty()) expect_operator(",");
      if (take_operator(")")) break;
      s.names.push_back(name());
      s.defaults.push_back(take_operator("=") ? expression() : nullptr);
      if (!s.defaults.back() && s.defaults.size() > 1 && s.defaults[s.defaults.size() - 2])
        bad("a parameter without a default after one with");
    }
  }

  // One expression, or several with commas between them as a list.
  ExpressionPtr tuple(bool with_condition = true) {
    ExpressionPtr first = with_condition ? expression() : either();
    if (!is_operator(",")) return first;
    auto list = make(ExpressionKind::kList, "", std::move(first));
    while (take_operator(",")) {
      if (now().kind == TokenKind::kPrintEnd || now().kind == TokenKind::kBlockEnd) break;
      list->operands.push_back(with_condition ? expression() : either());
    }
    return list;
  }

  ExpressionPtr expression() {
    const Nesting nesting(*this);
    ExpressionPtr value = either();
    while (is_name("if")) {
      auto e = make(ExpressionKind::kConditional, "", std::move(value));
      ++at_;
      e->operands.push_back(either());
      e->operands.push_back(take_name("else") ? expression() : nullptr);
      value = std::move(e);
    }
    return value;
  }

  ExpressionPtr either() {
    ExpressionPtr left = both();
    while (take_name("or")) left = make(ExpressionKind::kBinary, "or", std::move(left), both());
    return left;
  }

  ExpressionPtr both() {
    ExpressionPtr left = negation();
    while (take_name("and")) left = make(ExpressionKind::kBinary, "and", std::move(left), negation());
    return left;
  }

  ExpressionPtr negation() {
    const Nesting nesting(*this);
    if (take_name("not")) return make(ExpressionKind::kUnary, "not", negation());
    return comparison();
  }

  ExpressionPtr comparison() {
    ExpressionPtr left = sum();
    const std::string op = comparison_operator();
    if (op.empty()) return left;
    ExpressionPtr right = sum();
    if (!comparison_operator().empty()) bad("a chain of comparisons is not supported: join two with 'and'");
    return make(ExpressionKind::kBinary, op, std::move(left), std::move(right));
  }

  // Takes it; empty when there is none.
  std::string comparison_operator() {
    for (std::string_view o : {"==", "!=", "<=", ">=", "<", ">"})
      if (take_operator(o)) return std::string(o);
    if (take_name("in")) return "in";
    if (!is_name("not") || ahead(1).kind != TokenKind::kName || ahead(1).text != "in") return "";
    at_ += 2;
    return "not in";
  }

  ExpressionPtr sum() {
    ExpressionPtr left = joined();
    while (is_operator("+") || is_operator("-")) {
      const std::string op = tokens_[at_++].text;
      left = make(ExpressionKind::kBinary, op, std::move(left), joined());
    }
    return left;
  }

  ExpressionPtr joined() {
    ExpressionPtr left = product();
    while (take_operator("~")) left = make(ExpressionKind::kBinary, "~", std::move(left), product());
    return left;
  }

  ExpressionPtr product() {
    ExpressionPtr left = power();
    while (is_operator("*") || is_operator("/") || is_operator("//") || is_operator("%")) {
      const std::string op = tokens_[at_++].text;
      left = make(ExpressionKind::kBinary, op, std::move(left), power());
    }
    return left;
  }

  ExpressionPtr power() {
    ExpressionPtr left = unary(true);
    while (take_operator("**")) left = make(ExpressionKind::kBinary, "**", std::move(left), unary(true));
    return left;
  }

  ExpressionPtr unary(bool with_filters) {
    const Nesting nesting(*this);
    ExpressionPtr value;
    if (is_operator("-") || is_operator("+")) {
      const std::string op = tokens_[at_++].text;
      value = make(ExpressionKind::kUnary, op, unary(false));
    } else {
      value = postfix(primary());
    }
    return with_filters ? filters(std::move(value), false) : std::move(value);
  }

  ExpressionPtr primary() {
    const Token& t = now();
    if (t.kind == TokenKind::kNumber) {
      auto e = make(ExpressionKind::kConstant);
      e->value = t.value;
      ++at_;
      return e;
    }
    if (t.kind == TokenKind::kString) {
      auto e = make(ExpressionKind::kConstant);
      std::string text;
      while (now().kind == TokenKind::kString) text += tokens_[at_++].text;
      e->value = Value(std::move(text));
      return e;
    }
    if (t.kind == TokenKind::kName) return named_constant();
    if (take_operator("(")) {
      if (take_operator(")")) return make(ExpressionKind::kList);
      ExpressionPtr e = expression();
      if (is_operator(",")) {
        e = make(ExpressionKind::kList, "", std::move(e));
        while (take_operator(","))
          if (!is_operator(")")) e->operands.push_back(expression());
      }
      expect_operator(")");
      return e;
    }
    if (take_operator("[")) {
      auto e = make(ExpressionKind::kList);
      while (!take_operator("]")) {
        if (!e->operands.empty()) expect_operator(",");
        if (take_operator("]")) break;
        e->operands.push_back(expression());
      }
      return e;
    }
    if (take_operator("{")) {
      auto e = make(ExpressionKind::kDict);
      while (!take_operator("}")) {
        if (!e->operands.empty()) expect_operator(",");
        if (take_operator("}")) break;
        e->operands.push_back(expression());
        expect_operator(":");
        e->operands.push_back(expression());
      }
      return e;
    }
    bad(fmt::format("expected an expression, found '{}'", t.text));
  }

  ExpressionPtr named_constant() {
    auto e = make(ExpressionKind::kConstant);
    const std::string word = name();
    if (word == "true" || word == "True") {
      e->value = true;
    } else if (word == "false" || word == "False") {
      e->value = false;
    } else if (word != "none" && word != "None") {
      for (std::string_view reserved : {"and", "or", "not", "in", "is", "if", "else"})
        if (word == reserved) bad(fmt::format("expected an expression, found '{}'", word));
      e->kind = ExpressionKind::kName;
      e->text = word;
    }
    return e;
  }

  ExpressionPtr postfix(ExpressionPtr e) {
    while (true) {
      if (take_operator(".")) {
        if (now().kind == TokenKind::kNumber && now().value.is_int()) {
          auto index = make(ExpressionKind::kConstant);
          index->value = tokens_[at_++].value;
          e = make(ExpressionKind::kItem, "", std::move(e), std::move(index));
        } else {
          const std::string attribute = name();
          e = make(ExpressionKind::kAttribute, attribute, std::move(e));
        }
      } else if (take_operator("[")) {
        e = subscript(std::move(e));
      } else if (is_operator("(")) {
        e = make(ExpressionKind::kCall, "", std::move(e));
        arguments(*e);
      } else {
        return e;
      }
    }
  }

  ExpressionPtr subscript(ExpressionPtr object) {
    ExpressionPtr first = is_operator(":") ? nullptr : expression();
    if (first && take_operator("]")) return make(ExpressionKind::kItem, "", std::move(object), std::move(first));
    auto e = make(ExpressionKind::kSlice, "", std::move(object));
    e->operands.push_back(std::move(first));
    for (int i = 0; i < 2; ++i)
      e->operands.push_back(take_operator(":") && !is_operator(":") && !is_operator("]") ? expression() : nullptr);
    expect_operator("]");
    return e;
  }

  void arguments(Expression& e) {
    const Nesting nesting(*this);
    expect_operator("(");
    for (bool is_first = true; !take_operator(")"); is_first = false) {
      if (!is_first) expect_operator(",");
      if (take_operator(")")) break;
      if (now().kind == TokenKind::kName && ahead(1).kind == TokenKind::kOperator && ahead(1).text == "=") {
        const std::string key = name();
        ++at_;
        e.named.emplace_back(key, expression());
      } else {
        if (!e.named.empty()) bad("an argument by position after one by name");
        e.operands.push_back(expression());
      }
    }
  }

  // "| filter" and "is test" after a value; first: a filter block's, which starts without "|".
  ExpressionPtr filters(ExpressionPtr e, bool first) {
    while (true) {
      if (first || take_operator("|")) {
        first = false;
        e = make(ExpressionKind::kFilter, name(), std::move(e));
        if (is_operator("(")) arguments(*e);
      } else if (is_name("is")) {
        ++at_;
        const bool negated = take_name("not");
        e = make(ExpressionKind::kTest, name(), std::move(e));
        if (is_operator("(")) {
          arguments(*e);
        } else if (starts_test_argument()) {
          e->operands.push_back(postfix(primary()));
        }
        if (negated) e = make(ExpressionKind::kUnary, "not", std::move(e));
      } else if (is_operator("(")) {
        e = make(ExpressionKind::kCall, "", std::move(e));
        arguments(*e);
      } else {
        return e;
      }
    }
  }

  bool starts_test_argument() const {
    if (now().kind == TokenKind::kNumber || now().kind == TokenKind::kString) return true;
    if (now().kind == TokenKind::kOperator) return now().text == "[" || now().text == "{";
    if (now().kind != TokenKind::kName) return false;
    constexpr std::array<std::string_view, 7> kWords = {"else", "or", "and", "is", "if", "not", "in"};
    return std::find(kWords.begin(), kWords.end(), now().text) == kWords.end();
  }

  const std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0, loops_ = 0;
};

}  // namespace

Block parse_template(std::string_view source) { return Parser(tokenize_template(source)).run(); }

}  // namespace tsubu::chat
