// The page at "/": page.html, embedded when tsubu is built.
#pragma once

#include <string_view>

namespace tsubu::serve {

extern const std::string_view kPage;

}  // namespace tsubu::serve
