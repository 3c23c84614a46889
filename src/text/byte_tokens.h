// Byte fallback: the tokens "<0x00>" … "<0xFF>" that spell what a vocabulary has no piece for.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/vocabulary.h"

namespace tsubu {

using TokenIndex = std::unordered_map<std::string_view, int32_t>;

// The byte that "<0x0A>" stands for; nullopt for any other text.
std::optional<uint8_t> byte_of_token(std::string_view token);

class ByteTokens {
 public:
  explicit ByteTokens(const Vocabulary& vocabulary);
  // Appends the text's bytes as tokens. A byte without a token becomes the unknown token, once for a row of them; where
  // there is no unknown token either it is left out.
  void spell(std::string_view text, std::vector<int32_t>& out) const;

 private:
  std::array<int32_t, 256> ids_;
  int32_t unknown_;
};

}  // namespace tsubu
