// Streams of b-bit codes in 32-bit words, little end first: code i at bits b·i, across words where it does not divide.
#pragma once

#include <cstdint>
#include <vector>

#include "checkpoint/layout.h"

namespace tsubu {

// Field of `bits` bits at bit `at` of the words of a tensor from word `first` on.
inline uint32_t bits_at(const SafeTensor& tensor, uint64_t first, uint64_t at, uint32_t bits) {
  const uint64_t word = first + at / 32;
  const uint32_t shift = at % 32;
  uint64_t both = word_at(tensor, word);
  if (shift + bits > 32) both |= static_cast<uint64_t>(word_at(tensor, word + 1)) << 32;
  return static_cast<uint32_t>(both >> shift) & ((1u << bits) - 1);
}

// n codes out of words, which hold one word more than the codes need.
inline void unpack_bits(const std::vector<uint32_t>& words, uint64_t bits, uint64_t n, uint8_t* codes) {
  const uint32_t mask = (1u << bits) - 1;
  if (32 % bits == 0) {
    const uint64_t per_word = 32 / bits;
    for (uint64_t i = 0; i < n; ++i)
      codes[i] = static_cast<uint8_t>(words[i / per_word] >> (i % per_word * bits) & mask);
    return;
  }
  for (uint64_t i = 0; i < n; ++i) {
    const uint64_t at = i * bits, word = at / 32;
    const uint64_t both = words[word] | static_cast<uint64_t>(words[word + 1]) << 32;
    codes[i] = static_cast<uint8_t>(both >> (at % 32) & mask);
  }
}

// The reverse: words for n codes, the last one filled with zeros.
inline std::vector<uint32_t> pack_bits(const uint8_t* codes, uint64_t n, uint64_t bits) {
  std::vector<uint32_t> words((n * bits + 31) / 32 + 1);
  for (uint64_t i = 0; i < n; ++i) {
    const uint64_t at = i * bits, word = at / 32, field = static_cast<uint64_t>(codes[i]) << (at % 32);
    words[word] |= static_cast<uint32_t>(field);
    words[word + 1] |= static_cast<uint32_t>(field >> 32);
  }
  words.pop_back();
  return words;
}

// Output of an AWQ word's nibble i: 8 · word + kAwqOrder[i]; kAwqPlace is the inverse.
inline constexpr uint32_t kAwqOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};
inline constexpr uint32_t kAwqPlace[8] = {0, 4, 1, 5, 2, 6, 3, 7};

}  // namespace tsubu
