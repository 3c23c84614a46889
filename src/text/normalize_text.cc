#include "text/normalize_text.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>
#include <new>

#include "base/error.h"
#include "text/utf8.h"

namespace tsubu {
namespace {

utf8proc_option_t options_of(std::string_view form) {
  constexpr auto combine = [](int a, int b) { return static_cast<utf8proc_option_t>(a | b); };
  constexpr auto kCompose = combine(UTF8PROC_STABLE, UTF8PROC_COMPOSE);
  constexpr auto kDecompose = combine(UTF8PROC_STABLE, UTF8PROC_DECOMPOSE);
  if (form == "nfc") return kCompose;
  if (form == "nfd") return kDecompose;
  if (form == "nfkc") return combine(kCompose, UTF8PROC_COMPAT);
  if (form == "nfkd") return combine(kDecompose, UTF8PROC_COMPAT);
  fail(ExitCode::kUnsupported, "vocabulary: normalization '{}' is not supported (nfc, nfd, nfkc, nfkd are)", form);
}

void append_normalized(std::string_view text, utf8proc_option_t options, std::string& out) {
  utf8proc_uint8_t* raw = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             static_cast<utf8proc_ssize_t>(text.size()), &raw, options);
  if (size < 0) throw std::bad_alloc();  // the text is well-formed: only memory can be short
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(raw, &std::free);
  out.append(reinterpret_cast<const char*>(raw), static_cast<size_t>(size));
}

}  // namespace

std::string normalize_text(std::string_view text, std::string_view form) {
  const utf8proc_option_t options = options_of(form);
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    bool is_ascii = true;
    for (size_t length; (length = utf8_char_length(text, end)) > 0; end += length) is_ascii &= length == 1;
    const std::string_view stretch = text.substr(at, end - at);
    if (is_ascii)
      out += stretch;
    else
      append_normalized(stretch, options, out);
    at = end;
    if (at < text.size()) out += text[at++];
  }
  return out;
}

}  // namespace tsubu
