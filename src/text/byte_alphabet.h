// GPT-2's alphabet: the 256 bytes written as printable characters, in which byte-level vocabularies spell their tokens.
// Printable Latin-1 bytes stand for themselves, the other 68 are U+0100 and on, in order. Source: GPT-2's encoder.py.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tsubu {

// Bytes of a token spelled in the alphabet; nullopt when some character is not in it.
std::optional<std::string> bytes_from_alphabet(std::string_view token);
std::string bytes_to_alphabet(std::string_view bytes);

}  // namespace tsubu
