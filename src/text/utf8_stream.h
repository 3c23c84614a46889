// UTF-8 as it arrives token by token: characters may be split between pieces.
#pragma once

#include <string>
#include <string_view>

namespace tsubu {

// Passes complete characters on and keeps the beginning of an unfinished one; bytes that can never become a character
// turn into U+FFFD.
class Utf8Stream {
 public:
  std::string feed(std::string_view bytes);
  std::string finish();

 private:
  std::string pending_;
};

bool utf8_is_valid(std::string_view text);

}  // namespace tsubu
