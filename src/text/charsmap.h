// SentencePiece's precompiled character map: a Darts double-array trie from UTF-8 strings to their replacements.
// Layout: u32 size of the trie in bytes, the trie (u32 units), then the replacements, each ended by a zero byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tsubu {

class Charsmap {
 public:
  Charsmap() = default;
  // Empty bytes make the empty map. Throws Error(kBadInput) when the sizes do not fit.
  explicit Charsmap(std::span<const std::byte> blob);
  bool empty() const { return units_.empty(); }
  // The longest key at each place is replaced; all else is copied as it is, malformed UTF-8 too.
  std::string apply(std::string_view text) const;

 private:
  struct Hit {
    size_t length = 0;
    uint32_t offset = 0;
  };
  Hit longest(std::string_view text) const;
  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace tsubu
