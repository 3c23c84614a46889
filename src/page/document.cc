#include "page/document.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/digest.h"
#include "page/embedded.h"
#include "page/html.h"

namespace tsubu {
namespace {

std::string base64(std::string_view hex) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto nibble = [](char c) { return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10); };
  std::string out;
  for (size_t i = 0; i < hex.size(); i += 6) {  // three bytes, four digits
    unsigned bits = 0;
    for (size_t k = 0; k < 6; ++k) bits = bits << 4 | (i + k < hex.size() ? nibble(hex[i + k]) : 0);
    const size_t n_bytes = std::min<size_t>(3, (hex.size() - i) / 2);
    for (size_t k = 0; k < 4; ++k) out += k <= n_bytes ? kDigits[bits >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

// JSON inside of <script>: no text of it may end the element.
std::string script_json(const Json& json) {
  std::string out;
  for (const char c : json.dump(-1, ' ', false, Json::error_handler_t::replace)) out += c == '<' ? "\\u003c" : std::string(1, c);
  return out;
}

}  // namespace

std::string_view page_script() { return kPageScript; }
std::string_view page_style() { return kPageStyle; }

std::string page_document(const PageParts& parts, const Charts& charts) {
  std::string scripts, source = "'none'";
  if (!charts.empty()) {
    static const std::string kSource = "'sha256-" + base64(sha256_of(kPageScript)) + "'";
    source = kSource;
    scripts = fmt::format("<script type=\"application/json\" id=\"charts\">{}</script>\n<script>{}</script>", script_json(charts.json()), kPageScript);
  }
  return fmt::format(
      "<!doctype html>\n<html lang=\"{}\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src {}\">\n"
      "<title>{}</title><style>\n{}</style></head>\n<body><main{}>{}</main>\n{}</body></html>\n",
      parts.language, source, escape(parts.title), kPageStyle, parts.is_wide ? " class=\"wide\"" : "", parts.body, scripts);
}

}  // namespace tsubu
