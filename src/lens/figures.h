// Figures as SVG for a self-contained page: colors come from the page's style (classes c0 … c7, ink, grid), so one figure
// serves light and dark. Sizes in SVG units, 640 wide.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace tsubu {

struct FigurePoint {
  double x = 0, y = 0, low = 0, high = 0;  // low and high: of the band; equal: none
};

struct FigureSeries {
  std::string name;
  std::vector<FigurePoint> points;
  bool is_scatter = false;                 // points with their names instead of a line
  std::vector<std::string> names;          // of a scatter's points
};

struct LineFigure {
  std::string title, x_label, y_label;
  bool log_x = false, log_y = false;
  std::vector<FigureSeries> series;                      // at most eight
  std::vector<std::pair<double, std::string>> x_ticks;   // empty: chosen
  std::vector<std::pair<double, std::string>> marks;     // vertical lines with names
};
std::string line_svg(const LineFigure& figure);

struct HeatFigure {
  std::string title;
  std::vector<std::string> rows, columns;
  std::vector<std::vector<double>> values;  // by row; NaN: nothing. Shaded by their logarithm.
};
std::string heat_svg(const HeatFigure& figure);

std::string html_escape(const std::string& text);
// Up to three significant digits: "0.00123" → "1.23e-3" where that is shorter.
std::string short_number(double value);
// headings, then rows; the first column is text, the others numbers.
std::string html_table(const std::vector<std::string>& headings, const std::vector<std::vector<std::string>>& rows);

// The page around the figures: title, style, body.
std::string html_page(const std::string& title, const std::string& body);

}  // namespace tsubu
