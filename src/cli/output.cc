#include "cli/output.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "text/utf8.h"

namespace tsubu {
namespace {

[[noreturn]] void fail_stdout() {
  fail(ExitCode::kIo, "standard output: cannot write: {}", std::strerror(errno));
}

}  // namespace

void print_out(std::string_view text) {
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) fail_stdout();
}

void print_json(const Json& json) { print_out(dump_json(json)); }

void flush_out() {
  errno = 0;
  if (std::fflush(stdout) != 0) fail_stdout();
}

std::string format_count(uint64_t n) {
  if (n < 10000) return fmt::format("{}", n);
  const char* kUnits[] = {"k", "M", "G", "T"};
  double value = static_cast<double>(n) / 1000;
  size_t unit = 0;
  while (value >= 999.5 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return fmt::format("{:.3g} {}", value, kUnits[unit]);
}

std::string format_rate(double tokens_per_s) {
  return tokens_per_s >= 100 ? fmt::format("{:.0f} tokens/s", tokens_per_s)
                             : fmt::format("{:.3g} tokens/s", tokens_per_s);
}

std::string format_shape(const std::vector<uint64_t>& shape) {
  std::string text;
  for (uint64_t n : shape) text += fmt::format("{}{}", text.empty() ? "" : " × ", n);
  return text.empty() ? "scalar" : text;
}

std::string printable(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t n = utf8_char_length(text, at);
    const auto byte = static_cast<unsigned char>(text[at]);
    if (n == 0 || byte < 0x20 || byte == 0x7f) {
      out += byte == '\n' ? "\\n" : byte == '\t' ? "\\t" : byte == '\r' ? "\\r" : fmt::format("\\x{:02x}", byte);
    } else if (byte == '\\') {
      out += "\\\\";
    } else {
      out += text.substr(at, n);
    }
    at += n == 0 ? 1 : n;
  }
  return out;
}

}  // namespace tsubu
