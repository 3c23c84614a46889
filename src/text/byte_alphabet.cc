#include "text/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "text/utf8.h"

namespace tsubu {
namespace {

constexpr size_t kFirstSubstitute = 0x100;
constexpr size_t kSubstitutes = 68;

constexpr bool stands_for_itself(size_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<char32_t, 256> character{};                       // of each byte
  std::array<int, kFirstSubstitute + kSubstitutes> byte_of{};  // of each character, -1 for none
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  for (int& byte : alphabet.byte_of) byte = -1;
  size_t substitute = kFirstSubstitute;
  for (size_t byte = 0; byte < 256; ++byte) {
    const size_t character = stands_for_itself(byte) ? byte : substitute++;
    alphabet.character[byte] = static_cast<char32_t>(character);
    alphabet.byte_of[character] = static_cast<int>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

std::optional<std::string> bytes_from_alphabet(std::string_view token) {
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    const size_t length = utf8_char_length(token, at);
    if (length == 0) return std::nullopt;
    const char32_t c = utf8_code_point(token, at, length);
    if (c >= kAlphabet.byte_of.size() || kAlphabet.byte_of[c] < 0) return std::nullopt;
    bytes += static_cast<char>(kAlphabet.byte_of[c]);
    at += length;
  }
  return bytes;
}

std::string bytes_to_alphabet(std::string_view bytes) {
  std::string token;
  for (char c : bytes) append_utf8(token, kAlphabet.character[static_cast<uint8_t>(c)]);
  return token;
}

}  // namespace tsubu
