// A whole page that stands alone: style, policy, body, charts with the script that draws them.
#pragma once

#include <string>
#include <string_view>

#include "page/chart.h"

namespace tsubu {

struct PageParts {
  std::string language = "en", title, body;  // title: text; body: HTML
  bool is_wide = false;                       // room for two figures side by side
};

// A page with charts holds the library (page_script); its Content-Security-Policy names that script by digest and lets
// nothing else run or load.
std::string page_document(const PageParts& parts, const Charts& charts);

std::string_view page_script();
std::string_view page_style();

}  // namespace tsubu
