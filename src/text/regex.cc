#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include <pcre2.h>

#include <string>

#include "base/error.h"

namespace tsubu {
namespace {

// Members of White_Space, as they stand inside a character class. Source: Unicode's PropList.txt.
constexpr std::string_view kWhiteSpace =
    R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

std::string with_unicode_space(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    const bool is_escape = c == '\\' && i + 1 < pattern.size();
    if (!is_escape) {
      if (c == '[') in_class = true;
      if (c == ']') in_class = false;
      out += c;
      continue;
    }
    const char escaped = pattern[++i];
    if (escaped == 's')
      out += in_class ? std::string(kWhiteSpace) : fmt::format("[{}]", kWhiteSpace);
    else if (escaped == 'S' && !in_class)
      out += fmt::format("[^{}]", kWhiteSpace);
    else
      (out += '\\') += escaped;
  }
  return out;
}

std::string pcre2_message(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

PCRE2_SPTR as_subject(std::string_view text) {
  return reinterpret_cast<PCRE2_SPTR>(text.data() == nullptr ? "" : text.data());
}

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

struct Regex::Scratch::State {
  static constexpr size_t kFirstStack = 32 * 1024, kLargestStack = 64 * 1024 * 1024;  // bytes, grown as needed
  pcre2_match_data* match = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(kFirstStack, kLargestStack, nullptr);
  State() {
    if (context != nullptr && stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~State() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(match);
  }
};

Regex::Scratch::Scratch() : state_(std::make_unique<State>()) {
  if (state_->match == nullptr || state_->context == nullptr) throw std::bad_alloc();
}
Regex::Scratch::~Scratch() = default;

Regex::Regex(std::string_view pattern) : code_(std::make_unique<Code>()) {
  const std::string expanded = with_unicode_space(pattern);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // Bounds on the pattern itself; it may come from a file.
  code_->code = pcre2_compile(as_subject(expanded), expanded.size(), PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C,
                              &error, &offset, nullptr);
  if (code_->code == nullptr) fail(ExitCode::kBadInput, "regex '{}': {} at {}", pattern, pcre2_message(error), offset);
  pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE);  // without JIT, matching is interpreted
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

std::optional<Regex::Range> Regex::find(std::string_view text, size_t from, Scratch& scratch) const {
  const Scratch::State& state = *scratch.state_;
  const int found =
      pcre2_match(code_->code, as_subject(text), text.size(), from, PCRE2_NO_UTF_CHECK, state.match, state.context);
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0)
    fail(ExitCode::kBadInput, "text: the pre-tokenizer's regex gives up at byte {} of a run of {}: {}", from,
         text.size(), pcre2_message(found));
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(state.match);
  if (range[1] < range[0]) return Range{range[1], range[1]};
  return Range{range[0], range[1]};
}

}  // namespace tsubu
