// Charts of a page as data: values with their names, intervals and how they were measured. They stand once in the page, as JSON;
// charts.js draws them there with Apache ECharts (third_party/echarts). A page without scripts shows none, so whatever a chart
// shows stands in a table as well.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"

namespace tsubu {

inline constexpr int kSeriesColors = 8;  // --c0 … --c7 of style.css

struct ChartAxis {
  std::string name;
  bool logarithmic = false;  // values of 0 and less are left out
  bool is_share = false;     // written as per cent
  std::optional<double> low, high;
  std::vector<std::pair<double, std::string>> ticks;  // empty: chosen
};

struct ChartPoint {
  double x = 0, y = 0, low = 0, high = 0;  // low, high: interval of y; high not above low: none
  std::string name;
};

struct ChartSeries {
  enum class Form { kLine, kDots };  // a line with a band, or points with intervals and their names beside them
  std::string name;
  std::vector<ChartPoint> points;
  int color = 0;
  Form form = Form::kLine;
  std::string protocol;
};

// From the least to the largest x of these points, y = x; empty where they do not vary.
ChartSeries equality_line(const std::vector<ChartSeries>& series, const std::string& name);

// Values over values.
struct XyChart {
  std::string title;
  ChartAxis x, y;
  std::vector<ChartSeries> series;
  std::vector<std::pair<double, std::string>> marks;  // vertical lines with names
  std::string front;  // the name of a line through the points that no other is below and left of; empty: none
};

struct ChartRow {
  std::string name, text;                  // text: the value as it is written
  double value = 0, low = 0, high = 0;     // high not above low: no interval
  std::optional<double> limit;
  std::string limit_text, protocol;
  int color = 0;
};

// One value in each row: bars from 0, or points around it.
struct RowChart {
  std::string title, axis, limit_name;
  bool is_bars = true;
  std::vector<ChartRow> rows;
  std::optional<double> margin;  // of points: a line at -margin, named limit_name
};

struct HeatCell {
  double value = 0;  // shaded by its logarithm
  std::string name, note;
  bool is_marked = false;
};

// Cells of rows × columns; an empty place has no cell.
struct HeatChart {
  std::string title, value_name, protocol;
  std::vector<std::string> rows, columns;
  std::vector<std::vector<std::optional<HeatCell>>> cells;
};

// Values before and after, one beside the other.
struct PairChart {
  std::string title, item, before_name, after_name, protocol;
  std::vector<double> before, after;
};

// What the charts say besides their data.
struct ChartWords {
  std::string zoom = "zoom into an area", back = "zoom back", interval = "interval", protocol = "how it was measured", limit = "limit",
              keys = "arrow keys walk through the values";
};

// The charts of one page.
class Charts {
 public:
  explicit Charts(ChartWords words = {}) : words_(std::move(words)) {}

  // The place of the chart in the page, as HTML; nothing where there is nothing to draw.
  std::string add(const XyChart& chart);
  std::string add(const RowChart& chart);
  std::string add(const HeatChart& chart);
  std::string add(const PairChart& chart);

  bool empty() const { return list_.empty(); }
  // The data, for the page's end.
  Json json() const;

 private:
  std::string place(Json chart);
  Json protocol(const std::string& text);

  ChartWords words_;
  Json list_ = Json::array(), protocols_ = Json::array();
};

// A frame around one chart; without scripts nothing of it is seen. Empty for an empty one.
std::string chart_figure(const std::string& chart);
// The same with a caption and what else belongs to it, which are seen always.
std::string chart_figure(const std::string& chart, const std::string& caption, const std::string& html = "");

}  // namespace tsubu
