#include "text/utf8_stream.h"

#include <algorithm>

#include "text/utf8.h"

namespace tsubu {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";
constexpr size_t kLongest = 4;  // bytes of a character

// True when more bytes could make text a well-formed character. The range of a second byte always holds the lowest or
// the highest continuation byte, so it is enough to try these.
bool is_incomplete(std::string_view text) {
  for (const char continuation : {'\x80', '\xbf'})
    for (size_t length = text.size() + 1; length <= kLongest; ++length)
      if (utf8_char_length(std::string(text) + std::string(length - text.size(), continuation), 0) == length) return true;
  return false;
}

}  // namespace

std::string Utf8Stream::feed(std::string_view bytes) {
  pending_ += bytes;
  std::string out;
  size_t at = 0;
  while (at < pending_.size()) {
    const size_t n = utf8_char_length(pending_, at);
    if (n == 0 && pending_.size() - at < kLongest && is_incomplete(std::string_view(pending_).substr(at))) break;
    out += n == 0 ? kReplacement : std::string_view(pending_).substr(at, n);
    at += std::max<size_t>(n, 1);
  }
  pending_.erase(0, at);
  return out;
}

std::string Utf8Stream::finish() {
  const bool unfinished = !pending_.empty();
  pending_.clear();
  return unfinished ? std::string(kReplacement) : "";
}

bool utf8_is_valid(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t n = utf8_char_length(text, at);
    if (n == 0) return false;
    at += n;
  }
  return true;
}

}  // namespace tsubu
