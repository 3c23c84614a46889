#include "text/charsmap.h"

#include <cstring>

#include "base/error.h"
#include "text/utf8.h"

namespace tsubu {
namespace {

// Fields of a Darts-clone unit.
bool has_leaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t leaf_value(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t label(uint32_t unit) { return unit & (0x80000000u | 0xFF); }
uint32_t offset(uint32_t unit) { return (unit >> 10) << ((unit & 0x200) >> 6); }

}  // namespace

Charsmap::Charsmap(std::span<const std::byte> blob) {
  if (blob.empty()) return;
  uint32_t trie_bytes = 0;
  if (blob.size() >= sizeof trie_bytes) std::memcpy(&trie_bytes, blob.data(), sizeof trie_bytes);
  const bool fits = blob.size() >= sizeof trie_bytes && trie_bytes <= blob.size() - sizeof trie_bytes;
  if (!fits || trie_bytes == 0 || trie_bytes % sizeof(uint32_t) != 0)
    fail(ExitCode::kBadInput,
         "precompiled character map: a trie of {} bytes, expected a multiple of 4 within its {} bytes", trie_bytes,
         blob.size());
  units_.resize(trie_bytes / sizeof(uint32_t));
  std::memcpy(units_.data(), blob.data() + sizeof trie_bytes, trie_bytes);
  const auto rest = blob.subspan(sizeof trie_bytes + trie_bytes);
  replacements_.assign(reinterpret_cast<const char*>(rest.data()), rest.size());
  replacements_ += '\0';
}

Charsmap::Hit Charsmap::longest(std::string_view text) const {
  Hit hit;
  uint32_t at = offset(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    at ^= byte;
    if (byte == 0 || at >= units_.size() || label(units_[at]) != byte) break;
    const uint32_t unit = units_[at];
    at ^= offset(unit);
    if (at >= units_.size()) break;
    if (has_leaf(unit) && leaf_value(units_[at]) < replacements_.size()) hit = {i + 1, leaf_value(units_[at])};
  }
  return hit;
}

std::string Charsmap::apply(std::string_view text) const {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Hit hit = longest(text.substr(at));
    if (hit.length > 0) {
      out += replacements_.c_str() + hit.offset;
      at += hit.length;
      continue;
    }
    const size_t length = std::max<size_t>(utf8_char_length(text, at), 1);
    out += text.substr(at, length);
    at += length;
  }
  return out;
}

}  // namespace tsubu
