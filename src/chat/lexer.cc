#include "chat/lexer.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/error.h"
#include "text/utf8.h"

namespace tsubu::chat {
namespace {

constexpr size_t kMaxSource = 1 << 20;  // bytes; published templates have at most some ten thousand

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

// Jinja reads "\r\n" and "\r" as "\n" and drops one newline at the very end.
std::string normalized(std::string_view source) {
  std::string text;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text += source[i];
      continue;
    }
    text += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      const size_t mark = next_mark();
      std::string text = source_.substr(at_, mark - at_);
      if (strip_next_) text.erase(0, leading_space(text));
      if (trim_newline_ && text.starts_with('\n')) text.erase(0, 1);
      strip_next_ = trim_newline_ = false;
      at_ = mark;
      if (mark == source_.size()) {
        push_text(std::move(text));
        break;
      }
      const char kind = source_[mark + 1], sign = mark + 2 < source_.size() ? source_[mark + 2] : '\0';
      if (sign == '-')
        text.erase(std::find_if_not(text.rbegin(), text.rend(), is_space).base(), text.end());
      else if (kind != '{' && sign != '+')
        strip_line_start(text, mark);
      push_text(std::move(text));
      at_ += sign == '-' || sign == '+' ? 3 : 2;
      if (kind == '#')
        comment();
      else
        code(kind == '%');
    }
    tokens_.push_back({TokenKind::kEnd, line_at(source_.size()), "", {}});
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void bad(size_t at, std::string_view what) const {
    fail(ExitCode::kBadInput, "chat template: line {}: {}", line_at(at), what);
  }

  // Counted on from the last place that was asked for.
  int line_at(size_t at) const {
    at = std::min(at, source_.size());
    if (at < counted_to_) counted_to_ = 0, line_ = 1;
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<ptrdiff_t>(counted_to_), source_.begin() + static_cast<ptrdiff_t>(at), '\n'));
    counted_to_ = at;
    return line_;
  }

  size_t next_mark() const {
    for (size_t i = at_; i + 1 < source_.size(); ++i)
      if (source_[i] == '{' && (source_[i + 1] == '{' || source_[i + 1] == '%' || source_[i + 1] == '#')) return i;
    return source_.size();
  }

  static size_t leading_space(const std::string& text) {
    return static_cast<size_t>(std::find_if_not(text.begin(), text.end(), is_space) - text.begin());
  }

  // lstrip_blocks: blanks between the start of the line and the mark go.
  void strip_line_start(std::string& text, size_t mark) const {
    size_t begin = mark;
    while (begin > 0 && (source_[begin - 1] == ' ' || source_[begin - 1] == '\t')) --begin;
    if (begin > 0 && source_[begin - 1] != '\n') return;
    text.resize(text.size() - std::min(text.size(), mark - begin));
  }

  void push_text(std::string text) {
    if (!text.empty()) tokens_.push_back({TokenKind::kText, line_at(at_), std::move(text), {}});
  }

  // After a mark's end: what the text that follows loses.
  void after(char sign, bool is_print) {
    strip_next_ = sign == '-';
    trim_newline_ = sign != '+' && sign != '-' && !is_print;
  }

  void comment() {
    const size_t end = source_.find("#}", at_);
    if (end == std::string::npos) bad(at_, "a comment {# without its #}");
    const char sign = end > at_ ? source_[end - 1] : '\0';
    at_ = end + 2;
    after(sign == '-' || sign == '+' ? sign : '\0', false);
  }

  void code(bool is_block) {
    const size_t begin = at_;
    tokens_.push_back({is_block ? TokenKind::kBlockBegin : TokenKind::kPrintBegin, line_at(begin), "", {}});
    const size_t first = tokens_.size();
    const std::string_view close = is_block ? "%}" : "}}";
    std::vector<char> open;  // brackets: inside them "}}" closes dictionaries
    while (true) {
      while (at_ < source_.size() && is_space(source_[at_])) ++at_;
      if (at_ >= source_.size()) bad(begin, fmt::format("expected {}", close));
      const std::string_view rest = std::string_view(source_).substr(at_);
      const bool has_sign = rest[0] == '-' || rest[0] == '+';
      if (open.empty() && rest.substr(has_sign ? 1 : 0).starts_with(close)) {
        at_ += close.size() + (has_sign ? 1 : 0);
        after(has_sign ? rest[0] : '\0', !is_block);
        break;
      }
      word(open);
    }
    if (is_block && tokens_.size() == first + 1 && tokens_[first].text == "raw") {
      tokens_.resize(first - 1);
      raw();
      return;
    }
    tokens_.push_back({is_block ? TokenKind::kBlockEnd : TokenKind::kPrintEnd, line_at(at_), "", {}});
  }

  void raw() {
    size_t mark = at_;
    while (true) {
      mark = source_.find("{%", mark);
      if (mark == std::string::npos) bad(at_, "raw without endraw");
      size_t i = mark + 2;
      const char sign = i < source_.size() ? source_[i] : '\0';
      if (sign == '-' || sign == '+') ++i;
      while (i < source_.size() && is_space(source_[i])) ++i;
      if (source_.compare(i, 6, "endraw") != 0) {
        mark += 2;
        continue;
      }
      std::string text = source_.substr(at_, mark - at_);
      if (strip_next_) text.erase(0, leading_space(text));
      if (trim_newline_ && text.starts_with('\n')) text.erase(0, 1);
      if (sign == '-')
        text.erase(std::find_if_not(text.rbegin(), text.rend(), is_space).base(), text.end());
      else if (sign != '+')
        strip_line_start(text, mark);
      push_text(std::move(text));
      const size_t end = source_.find("%}", i);
      if (end == std::string::npos) bad(mark, "expected %}");
      at_ = end + 2;
      const char last = source_[end - 1];
      after(last == '-' || last == '+' ? last : '\0', false);
      return;
    }
  }

  void word(std::vector<char>& open) {
    const char c = source_[at_];
    if (is_name_start(c)) {
      const size_t begin = at_;
      while (at_ < source_.size() && (is_name_start(source_[at_]) || is_digit(source_[at_]))) ++at_;
      tokens_.push_back({TokenKind::kName, line_at(begin), source_.substr(begin, at_ - begin), {}});
    } else if (is_digit(c)) {
      number();
    } else if (c == '\'' || c == '"') {
      string(c);
    } else {
      operator_word(open);
    }
  }

  void number() {
    const size_t begin = at_;
    std::string digits;
    bool is_float = false;
    const auto take = [&] {
      for (; at_ < source_.size() && (is_digit(source_[at_]) || source_[at_] == '_'); ++at_)
        if (source_[at_] != '_') digits += source_[at_];
    };
    take();
    if (at_ + 1 < source_.size() && source_[at_] == '.' && is_digit(source_[at_ + 1])) {
      is_float = true;
      digits += source_[at_++];
      take();
    }
    if (at_ + 1 < source_.size() && (source_[at_] | 0x20) == 'e') {
      const size_t sign = source_[at_ + 1] == '-' || source_[at_ + 1] == '+' ? 1 : 0;
      if (at_ + 1 + sign < source_.size() && is_digit(source_[at_ + 1 + sign])) {
        is_float = true;
        digits += 'e';
        if (source_[at_ + 1] == '-') digits += '-';
        at_ += 1 + sign;
        take();
      }
    }
    Token token{TokenKind::kNumber, line_at(begin), digits, {}};
    const char *first = digits.data(), *last = first + digits.size();
    int64_t i = 0;
    double d = 0;
    if (is_float && std::from_chars(first, last, d).ec == std::errc())
      token.value = d;
    else if (!is_float && std::from_chars(first, last, i).ec == std::errc())
      token.value = i;
    else
      bad(begin, "a number that is too large");
    tokens_.push_back(std::move(token));
  }

  char32_t code_point(size_t digits) {
    char32_t value = 0;
    for (size_t i = 0; i < digits; ++i, ++at_) {
      const char c = at_ < source_.size() ? source_[at_] : '\0';
      const int digit = is_digit(c) ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
      if (digit < 0) bad(at_, "an escape of a character that is not hexadecimal");
      value = value * 16 + static_cast<char32_t>(digit);
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) bad(at_, "an escape that is no character");
    return value;
  }

  void string(char quote) {
    const size_t begin = at_++;
    std::string text;
    while (true) {
      if (at_ >= source_.size()) bad(begin, "a string without its end");
      const char c = source_[at_++];
      if (c == quote) break;
      if (c != '\\') {
        text += c;
        continue;
      }
      const char escaped = at_ < source_.size() ? source_[at_++] : '\0';
      constexpr std::string_view kLetters = "abfnrtv", kMeanings = "\a\b\f\n\r\t\v";
      if (const size_t i = kLetters.find(escaped); i != std::string_view::npos && escaped != '\0')
        text += kMeanings[i];
      else if (escaped == 'x' || escaped == 'u' || escaped == 'U')
        append_utf8(text, code_point(escaped == 'x' ? 2 : escaped == 'u' ? 4 : 8));
      else if (escaped == '\\' || escaped == '\'' || escaped == '"')
        text += escaped;
      else if (escaped == '0')
        text += '\0';
      else if (escaped != '\n')
        (text += '\\') += escaped;
    }
    tokens_.push_back({TokenKind::kString, line_at(begin), std::move(text), {}});
  }

  void operator_word(std::vector<char>& open) {
    constexpr std::array<std::string_view, 27> kOperators = {"**", "//", "==", "!=", "<=", ">=", "+", "-", "*",
                                                             "/",  "%",  "~",  "<",  ">",  "=",  "|", "(", ")",
                                                             "[",  "]",  "{",  "}",  ",",  ":",  ".", ";", "@"};
    const std::string_view rest = std::string_view(source_).substr(at_);
    for (std::string_view o : kOperators) {
      if (!rest.starts_with(o)) continue;
      if (o == "(" || o == "[" || o == "{") open.push_back(o[0]);
      if (o == ")" || o == "]" || o == "}") {
        const char want = o == ")" ? '(' : o == "]" ? '[' : '{';
        if (open.empty() || open.back() != want) bad(at_, fmt::format("an unexpected '{}'", o));
        open.pop_back();
      }
      tokens_.push_back({TokenKind::kOperator, line_at(at_), std::string(o), {}});
      at_ += o.size();
      return;
    }
    bad(at_, fmt::format("an unexpected character, byte {:#04x}", static_cast<unsigned char>(source_[at_])));
  }

  const std::string source_;
  size_t at_ = 0;
  mutable size_t counted_to_ = 0;
  mutable int line_ = 1;
  bool strip_next_ = false, trim_newline_ = false;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize_template(std::string_view source) {
  if (source.size() > kMaxSource)
    fail(ExitCode::kBadInput, "chat template: {} bytes: expected at most {}", source.size(), kMaxSource);
  return Lexer(normalized(source)).run();
}

}  // namespace tsubu::chat
