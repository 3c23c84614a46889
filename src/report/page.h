// The sections of the page, each from what the runs have; a section without data is empty text.
#pragma once

#include <cmath>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "page/chart.h"
#include "report/report.h"

namespace tsubu {

// One model as the page shows it, whatever run it comes from.
struct ShownModel {
  std::string name, type;
  int series = 0;
  bool is_base = false;
  double bits_per_weight = 0, size_bytes = 0;
  Json data;   // the candidate's object of certify, or eval's document
  Json speed;  // bench's keys, or null
  std::string protocol;
};

struct PageData {
  std::vector<ShownModel> models;  // bases first
  std::vector<const Json*> certifies, quantizes, lenses;
  const ReportOptions* options = nullptr;
  Words words{Language::kEnglish};
  // Numbers that the page works out of several of the runs' own, for its JSON: what, and the value, which is returned.
  double derived(const std::string& what, double value) const {
    if (std::isfinite(value)) worked_out.push_back({{"what", what}, {"value", value}});
    return value;
  }
  mutable Json worked_out = Json::array();
  mutable Charts charts;  // sections add theirs
};

// A line that leads from a section to the words it uses, which explain_section() explains.
std::string words_line(const PageData& page, std::initializer_list<std::string_view> names);
// The name of a limit, leading to what it holds; and that as text.
std::string gate_link(const std::string& name);
std::string gate_explained(const std::string& name, Language language);

PageData gather(std::span<const Run> runs, const ReportOptions& options);

std::string verdict_section(const PageData& page);
std::string models_section(const PageData& page);
std::string pareto_section(const PageData& page);
std::string divergence_section(const PageData& page);
std::string layers_section(const PageData& page);
std::string lens_section(const PageData& page);
std::string training_section(const PageData& page);
std::string tasks_section(const PageData& page);
std::string generation_section(const PageData& page);
std::string worst_section(const PageData& page);
std::string speed_section(const PageData& page);
std::string cost_section(const PageData& page);
// Rows of weights before and after each type: what the pictures of the explanations show.
Json explained_rows(const PageData& page);
std::string explain_section(const PageData& page, const Json& rows);
std::string how_section(const PageData& page, std::span<const Run> runs);

}  // namespace tsubu
