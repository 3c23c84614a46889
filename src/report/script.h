// What makes the page's charts answer: values under the pointer or finger, models that can be hidden. Without it the page reads
// the same.
#pragma once

#include <string>
#include <string_view>

namespace tsubu {

std::string_view page_script();
// The source expression by which a Content-Security-Policy lets this script run and no other: 'sha256-…'.
std::string page_script_hash();

}  // namespace tsubu
