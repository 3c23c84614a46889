#include "page/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "page/html.h"

namespace tsubu {
namespace {

int color(int series) { return ((series % kSeriesColors) + kSeriesColors) % kSeriesColors; }

Json axis_json(const ChartAxis& axis) {
  Json j = {{"name", axis.name}};
  if (axis.logarithmic) j["log"] = true;
  if (axis.is_share) j["share"] = true;
  if (axis.low) j["low"] = *axis.low;
  if (axis.high) j["high"] = *axis.high;
  for (const auto& [at, name] : axis.ticks) j["ticks"].push_back({at, name});
  return j;
}

bool can_show(const ChartAxis& axis, double v) { return std::isfinite(v) && (!axis.logarithmic || v > 0); }

}  // namespace

ChartSeries equality_line(const std::vector<ChartSeries>& series, const std::string& name) {
  ChartSeries line;
  line.name = name;
  std::vector<double> xs;
  for (const ChartSeries& s : series)
    for (const ChartPoint& p : s.points) xs.push_back(p.x);
  if (xs.empty()) return line;
  const auto [low, high] = std::minmax_element(xs.begin(), xs.end());
  if (*high > *low) line.points = {{*low, *low, 0, 0, ""}, {*high, *high, 0, 0, ""}};
  return line;
}

Json Charts::protocol(const std::string& text) {
  if (text.empty()) return nullptr;
  const auto found = std::find(protocols_.begin(), protocols_.end(), Json(text));
  const auto at = found - protocols_.begin();
  if (found == protocols_.end()) protocols_.push_back(text);
  return at;
}

std::string Charts::place(Json chart) {
  const std::string label = chart.at("title").get<std::string>();
  const std::string html = fmt::format("<div class=\"chart\" data-chart=\"{}\" role=\"img\" aria-label=\"{}\" tabindex=\"0\" hidden></div>",
                                       list_.size(), escape(label));
  list_.push_back(std::move(chart));
  return html;
}

std::string Charts::add(const XyChart& chart) {
  Json series = Json::array();
  for (const ChartSeries& s : chart.series) {
    Json points = Json::array();
    for (const ChartPoint& p : s.points) {
      if (!can_show(chart.x, p.x) || !can_show(chart.y, p.y)) continue;
      Json point = {p.x, p.y};
      // An interval that goes down to 0 ends at the edge of a logarithmic axis.
      if (p.high > p.low) {
        point.push_back(can_show(chart.y, p.low) ? Json(p.low) : Json());
        point.push_back(p.high);
      }
      if (!p.name.empty()) {
        while (point.size() < 4) point.push_back(nullptr);
        point.push_back(p.name);
      }
      points.push_back(std::move(point));
    }
    if (points.empty()) continue;
    series.push_back({{"name", s.name}, {"color", color(s.color)}, {"points", std::move(points)}, {"protocol", protocol(s.protocol)}});
    if (s.form == ChartSeries::Form::kDots) series.back()["dots"] = true;
  }
  if (series.empty()) return "";
  Json j = {{"kind", "xy"}, {"title", chart.title}, {"x", axis_json(chart.x)}, {"y", axis_json(chart.y)}, {"series", std::move(series)}};
  for (const auto& [at, name] : chart.marks)
    if (can_show(chart.x, at)) j["marks"].push_back({at, name});
  if (!chart.front.empty()) j["front"] = chart.front;
  return place(std::move(j));
}

std::string Charts::add(const RowChart& chart) {
  Json rows = Json::array();
  double most = 0;
  for (const ChartRow& r : chart.rows) {
    if (!std::isfinite(r.value)) continue;
    most = std::max(most, std::abs(r.value));
    Json row = {{"name", r.name}, {"text", r.text}, {"value", r.value}, {"color", color(r.color)}, {"protocol", protocol(r.protocol)}};
    if (r.high > r.low) row.update({{"low", r.low}, {"high", r.high}});
    if (r.limit && std::isfinite(*r.limit)) row.update({{"limit", *r.limit}, {"limit_text", r.limit_text}});
    rows.push_back(std::move(row));
  }
  if (rows.empty() || (chart.is_bars && most <= 0)) return "";
  Json j = {{"kind", chart.is_bars ? "bars" : "intervals"}, {"title", chart.title}, {"axis", chart.axis}, {"rows", std::move(rows)}};
  if (!chart.limit_name.empty()) j["limit_name"] = chart.limit_name;
  if (chart.margin) j["margin"] = *chart.margin;
  return place(std::move(j));
}

std::string Charts::add(const HeatChart& chart) {
  Json cells = Json::array();
  bool any = false;
  for (size_t r = 0; r < chart.cells.size(); ++r)
    for (size_t c = 0; c < chart.cells[r].size(); ++c) {
      const std::optional<HeatCell>& cell = chart.cells[r][c];
      if (!cell) continue;
      const bool has_value = std::isfinite(cell->value) && cell->value > 0;
      if (!has_value && !cell->is_marked) continue;
      any = any || has_value;
      Json j = {c, r, std::isfinite(cell->value) ? Json(cell->value) : Json(), cell->name};
      if (cell->is_marked || !cell->note.empty()) j.push_back(cell->note);
      if (cell->is_marked) j.push_back(true);
      cells.push_back(std::move(j));
    }
  if (!any) return "";
  return place({{"kind", "heat"},
                {"title", chart.title},
                {"value_name", chart.value_name},
                {"rows", chart.rows},
                {"columns", chart.columns},
                {"cells", std::move(cells)},
                {"protocol", protocol(chart.protocol)}});
}

std::string Charts::add(const PairChart& chart) {
  if (chart.before.empty() || chart.before.size() != chart.after.size()) return "";
  return place({{"kind", "pairs"},
                {"title", chart.title},
                {"item", chart.item},
                {"names", {chart.before_name, chart.after_name}},
                {"before", chart.before},
                {"after", chart.after},
                {"protocol", protocol(chart.protocol)}});
}

Json Charts::json() const {
  return {{"words",
           {{"zoom", words_.zoom},
            {"back", words_.back},
            {"interval", words_.interval},
            {"protocol", words_.protocol},
            {"limit", words_.limit},
            {"keys", words_.keys}}},
          {"protocols", protocols_},
          {"charts", list_}};
}

std::string chart_figure(const std::string& chart) { return chart.empty() ? "" : "<figure hidden>" + chart + "</figure>\n"; }

std::string chart_figure(const std::string& chart, const std::string& caption, const std::string& html) {
  return "<figure>" + chart + "<figcaption>" + escape(caption) + "</figcaption>" + html + "</figure>\n";
}

}  // namespace tsubu
