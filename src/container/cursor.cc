#include "container/cursor.h"

namespace tsubu {

std::string printable(std::string_view text) {
  constexpr size_t kMaxShown = 80;
  std::string shown;
  for (const char c : text.substr(0, kMaxShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f)
      shown += fmt::format("\\x{:02x}", byte);
    else
      shown += c;
  }
  if (text.size() > kMaxShown) shown += fmt::format("… ({} bytes)", text.size());
  return shown;
}

}  // namespace tsubu
