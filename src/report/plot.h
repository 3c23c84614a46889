// Plots as SVG text, colored by the page's style sheet (classes s0 … s7 for series), so that light, dark and print come
// from CSS alone. Widths are in SVG units; the page scales them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tsubu {

inline constexpr int kSeriesColors = 8;

struct AxisSpec {
  std::string label;
  bool logarithmic = false;  // values must be above 0
  std::optional<double> low, high;
};

struct PlotPoint {
  double x = 0, y = 0, low = 0, high = 0;  // low, high: interval of y; both 0: none
  std::string label, tip;
  int series = 0;
};

// Points with intervals; those that no other is smaller and better than (both lower) are joined.
std::string scatter_plot(const std::vector<PlotPoint>& points, const AxisSpec& x, const AxisSpec& y, bool front);

struct Curve {
  std::string label;
  std::vector<double> x, y;
  int series = 0;
};
std::string curve_plot(const std::vector<Curve>& curves, const AxisSpec& x, const AxisSpec& y);

struct Bar {
  std::string label, value_text, tip;
  double value = 0;
  std::optional<double> limit;  // drawn as a line across the bar's row
  int series = 0;
};
std::string bar_plot(const std::vector<Bar>& bars, const std::string& unit);

struct IntervalRow {
  std::string label, tip;
  double value = 0, low = 0, high = 0;
  int series = 0;
};
// Intervals around a zero line; margin: a second line at -margin.
std::string interval_plot(const std::vector<IntervalRow>& rows, const std::string& axis, std::optional<double> margin);

// Weights before and after rounding, one beside the other: rings and dots, with a line for what moved.
std::string stored_plot(const std::vector<double>& before, const std::vector<double>& after, const std::string& before_name,
                        const std::string& after_name);

// Cells of a table of rows × columns, shaded by log value between the smallest and largest; NaN: an empty cell.
std::string heat_map(const std::vector<std::string>& rows, const std::vector<std::string>& columns,
                     const std::vector<std::vector<double>>& values, const std::vector<std::vector<std::string>>& tips,
                     const std::vector<std::vector<bool>>& marked, const std::string& label);

}  // namespace tsubu
