#include "text/byte_tokens.h"

namespace tsubu {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

std::optional<uint8_t> byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  const int high = hex_digit(token[3]), low = hex_digit(token[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<uint8_t>(high * 16 + low);
}

ByteTokens::ByteTokens(const Vocabulary& vocabulary) : unknown_(vocabulary.unk) {
  ids_.fill(-1);
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const auto byte = byte_of_token(vocabulary.tokens[i]);
    if (byte && ids_[*byte] < 0) ids_[*byte] = static_cast<int32_t>(i);
  }
}

void ByteTokens::spell(std::string_view text, std::vector<int32_t>& out) const {
  for (char c : text) {
    const int32_t id = ids_[static_cast<uint8_t>(c)];
    if (id >= 0)
      out.push_back(id);
    else if (unknown_ >= 0 && (out.empty() || out.back() != unknown_))
      out.push_back(unknown_);
  }
}

}  // namespace tsubu
