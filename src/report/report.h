// One self-contained page (HTML, no network; without scripts it lacks the charts only) from the JSON that commands print:
// certify, eval, bench, lens, quantize, tune. Every number stands in the JSON, which the page holds as well.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "report/cost.h"
#include "page/words.h"

namespace tsubu {

struct ReportOptions {
  Language language = Language::kEnglish;
  std::string title;  // empty: the default
  Prices prices;
};

struct Run {
  std::string path;
  Json json;
};

// What kind of run a document is: "certify", "eval", "bench", "quantize". Throws Error(kBadInput) for anything else.
std::string run_kind(const Run& run);

// Throws Error(kBadInput) when a document lacks what its kind has.
std::string make_report(std::span<const Run> runs, const ReportOptions& options);

}  // namespace tsubu
