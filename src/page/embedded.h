// What embed.cmake makes of style.css, charts.js and the library in third_party/echarts.
#pragma once

#include <string_view>

namespace tsubu {

extern const std::string_view kPageStyle, kPageScript;  // kPageScript: the library, then charts.js

}  // namespace tsubu
