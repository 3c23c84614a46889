// Unicode normalization forms, by utf8proc. Malformed UTF-8 is copied as it is.
#pragma once

#include <string>
#include <string_view>

namespace tsubu {

// form: "nfc", "nfd", "nfkc", "nfkd". Throws Error(kUnsupported) for any other.
std::string normalize_text(std::string_view text, std::string_view form);

}  // namespace tsubu
