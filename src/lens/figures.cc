#include "lens/figures.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace tsubu {
namespace {

constexpr double kWidth = 640, kHeight = 360, kLeft = 64, kRight = 118, kTop = 34, kBottom = 46;
constexpr double kLabelGap = 13;  // between names at the right edge
constexpr size_t kColors = 8;

// A linear or logarithmic axis onto [from, to].
struct Axis {
  bool is_log = false;
  double low = 0, high = 1, from = 0, to = 1;
  double value(double v) const { return is_log ? std::log(v) : v; }
  double at(double v) const { return from + (value(v) - value(low)) / (value(high) - value(low)) * (to - from); }
};

void include(double v, bool is_log, double& low, double& high) {
  if (!std::isfinite(v) || (is_log && v <= 0)) return;
  low = std::min(low, v);
  high = std::max(high, v);
}

std::vector<std::pair<double, std::string>> ticks_of(const Axis& axis) {
  std::vector<std::pair<double, std::string>> ticks;
  if (axis.is_log) {
    const double decades = std::log10(axis.high / axis.low);
    for (int e = static_cast<int>(std::floor(std::log10(axis.low))); std::pow(10, e) <= axis.high * 1.0001; ++e)
      for (double m : {1.0, 2.0, 5.0}) {
        if (m != 1 && decades > 2.2) continue;
        const double v = m * std::pow(10, e);
        if (v >= axis.low * 0.9999 && v <= axis.high * 1.0001) ticks.emplace_back(v, short_number(v));
      }
    return ticks;
  }
  const double raw = (axis.high - axis.low) / 5, power = std::pow(10, std::floor(std::log10(raw)));
  const double step = power * (raw / power < 1.5 ? 1 : raw / power < 3.5 ? 2 : raw / power < 7.5 ? 5 : 10);
  for (double v = std::ceil(axis.low / step) * step; v <= axis.high + step * 1e-9; v += step)
    ticks.emplace_back(v, short_number(std::abs(v) < step * 1e-9 ? 0 : v));
  return ticks;
}

std::string text_at(double x, double y, const std::string& text, const char* cls, const char* anchor = "start") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\" text-anchor=\"{}\">{}</text>\n", x, y, cls, anchor,
                     html_escape(text));
}

}  // namespace

std::string html_escape(const std::string& text) {
  std::string r;
  for (const char c : text) {
    if (c == '&') r += "&amp;";
    else if (c == '<') r += "&lt;";
    else if (c == '>') r += "&gt;";
    else if (c == '"') r += "&quot;";
    else r += c;
  }
  return r;
}

std::string short_number(double v) {
  if (!std::isfinite(v)) return "–";
  if (v != 0 && (std::abs(v) < 1e-3 || std::abs(v) >= 1e6)) {
    std::string text = fmt::format("{:.2e}", v);
    const size_t e = text.find('e');
    std::string mantissa = text.substr(0, e);
    while (mantissa.find('.') != std::string::npos && (mantissa.back() == '0' || mantissa.back() == '.')) {
      const bool dot = mantissa.back() == '.';
      mantissa.pop_back();
      if (dot) break;
    }
    return fmt::format("{}e{}", mantissa, std::stoi(text.substr(e + 1)));
  }
  return fmt::format("{:.3g}", v);
}

std::string line_svg(const LineFigure& figure) {
  Axis x{figure.log_x, 1e300, -1e300, kLeft, kWidth - kRight}, y{figure.log_y, 1e300, -1e300, kHeight - kBottom, kTop};
  for (const FigureSeries& s : figure.series)
    for (const FigurePoint& p : s.points) {
      if (figure.log_y && p.y <= 0) continue;
      include(p.x, x.is_log, x.low, x.high);
      for (double v : {p.y, p.low, p.high}) include(v, y.is_log, y.low, y.high);
    }
  for (const auto& [at, name] : figure.marks) include(at, x.is_log, x.low, x.high);
  if (x.low > x.high || y.low > y.high) return "<p class=\"note\">" + html_escape(figure.title) + ": nothing was measured.</p>\n";
  if (y.is_log) {
    y.low /= 1.3;
    y.high *= 1.3;
  } else {
    const double room = std::max((y.high - y.low) * 0.06, 1e-12);
    y.low = y.low >= 0 && y.low < room ? 0 : y.low - room;
    y.high += room;
  }
  if (x.is_log) {
    x.low /= 1.06;
    x.high *= 1.06;
  } else if (x.high == x.low) {
    x.low -= 0.5;
    x.high += 0.5;
  }
  std::string svg = fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n", kWidth, kHeight,
                                html_escape(figure.title));
  svg += text_at(kLeft, 18, figure.title, "title");
  for (const auto& [v, name] : ticks_of(y)) {
    svg += fmt::format("<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" class=\"grid\"/>\n", kLeft, kWidth - kRight, y.at(v), y.at(v));
    svg += text_at(kLeft - 6, y.at(v) + 4, name, "tick", "end");
  }
  for (const auto& [v, name] : figure.x_ticks.empty() ? ticks_of(x) : figure.x_ticks) {
    if (v < x.low || v > x.high) continue;
    svg += fmt::format("<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\" class=\"grid\"/>\n", x.at(v), kTop, kHeight - kBottom);
    svg += text_at(x.at(v), kHeight - kBottom + 16, name, "tick", "middle");
  }
  svg += text_at((kLeft + kWidth - kRight) / 2, kHeight - 10, figure.x_label, "label", "middle");
  svg += fmt::format("<text transform=\"translate(14 {:.1f}) rotate(-90)\" class=\"label\" text-anchor=\"middle\">{}</text>\n",
                     (kTop + kHeight - kBottom) / 2, html_escape(figure.y_label));
  size_t mark = 0;
  for (const auto& [v, name] : figure.marks) {
    svg += fmt::format("<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\" class=\"mark\"/>\n", x.at(v), kTop, kHeight - kBottom);
    svg += text_at(x.at(v) + 3, kTop + 11 + 12 * static_cast<double>(mark % 4), name, "tick");
    ++mark;
  }
  struct Name {
    double y;
    size_t color;
    std::string text;
  };
  std::vector<Name> names;
  for (size_t i = 0; i < figure.series.size(); ++i) {
    const FigureSeries& s = figure.series[i];
    const size_t color = i % kColors;
    std::vector<FigurePoint> points;
    std::vector<std::string> point_names;
    for (size_t k = 0; k < s.points.size(); ++k) {
      const FigurePoint& p = s.points[k];
      if (!std::isfinite(p.y) || (y.is_log && p.y <= 0) || (x.is_log && p.x <= 0)) continue;
      points.push_back(p);
      if (s.is_scatter) point_names.push_back(k < s.names.size() ? s.names[k] : "");
    }
    if (points.empty()) continue;
    if (!s.is_scatter) {
      std::string band, line;
      for (const FigurePoint& p : points) band += fmt::format("{:.1f},{:.1f} ", x.at(p.x), y.at(std::max(p.high, p.y)));
      for (size_t k = points.size(); k-- > 0;)
        band += fmt::format("{:.1f},{:.1f} ", x.at(points[k].x), y.at(y.is_log ? std::max(std::min(points[k].low, points[k].y), y.low) : std::min(points[k].low, points[k].y)));
      for (const FigurePoint& p : points) line += fmt::format("{:.1f},{:.1f} ", x.at(p.x), y.at(p.y));
      const bool has_band = std::any_of(points.begin(), points.end(), [](const FigurePoint& p) { return p.high > p.low; });
      if (has_band) svg += fmt::format("<polygon points=\"{}\" class=\"band c{}\"/>\n", band, color);
      svg += fmt::format("<polyline points=\"{}\" class=\"line c{}\"/>\n", line, color);
      names.push_back({y.at(points.back().y), color, s.name});
    }
    for (size_t k = 0; k < points.size(); ++k) {
      const FigurePoint& p = points[k];
      svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" class=\"dot c{}\"><title>{}: {}, {}</title></circle>\n", x.at(p.x),
                         y.at(p.y), s.is_scatter ? 4 : 3, color, html_escape(s.is_scatter ? point_names[k] : s.name),
                         short_number(p.x), short_number(p.y));
      if (s.is_scatter) svg += text_at(x.at(p.x) + 6, y.at(p.y) + 4, point_names[k], "tick");
    }
  }
  // Names stand at the lines' ends, apart from each other.
  std::stable_sort(names.begin(), names.end(), [](const Name& a, const Name& b) { return a.y < b.y; });
  for (size_t i = 1; i < names.size(); ++i) names[i].y = std::max(names[i].y, names[i - 1].y + kLabelGap);
  if (!names.empty()) {
    const double over = names.back().y - (kHeight - kBottom);
    if (over > 0)
      for (Name& n : names) n.y -= over;
    for (size_t i = 1; i < names.size(); ++i) names[i].y = std::max(names[i].y, names[i - 1].y + kLabelGap);
  }
  for (const Name& n : names)
    svg += fmt::format("<text x=\"{}\" y=\"{:.1f}\" class=\"name c{}\">{}</text>\n", kWidth - kRight + 8, n.y + 4, n.color, html_escape(n.text));
  return svg + "</svg>\n";
}

std::string heat_svg(const HeatFigure& figure) {
  double low = 1e300, high = -1e300;
  for (const auto& row : figure.values)
    for (double v : row) include(v, true, low, high);
  if (low > high) return "<p class=\"note\">" + html_escape(figure.title) + ": nothing was measured.</p>\n";
  const double left = 70, top = 58, cell_w = (kWidth - left - 10) / static_cast<double>(figure.columns.size());
  const double cell_h = figure.rows.size() > 24 ? 15 : 24;
  std::string svg = fmt::format("<svg viewBox=\"0 0 {} {:.0f}\" role=\"img\" aria-label=\"{}\">\n", kWidth,
                                top + cell_h * static_cast<double>(figure.rows.size()) + 10, html_escape(figure.title));
  svg += text_at(10, 18, figure.title, "title");
  for (size_t c = 0; c < figure.columns.size(); ++c)
    svg += text_at(left + cell_w * (static_cast<double>(c) + 0.5), top - 8, figure.columns[c], "tick", "middle");
  for (size_t r = 0; r < figure.rows.size(); ++r) {
    const double y = top + cell_h * static_cast<double>(r);
    svg += text_at(left - 8, y + cell_h / 2 + 4, figure.rows[r], "tick", "end");
    for (size_t c = 0; c < figure.columns.size(); ++c) {
      const double v = figure.values[r][c], x = left + cell_w * static_cast<double>(c);
      if (!std::isfinite(v) || v <= 0) continue;
      const double share = high > low ? std::log(v / low) / std::log(high / low) : 1;
      svg += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" class=\"cell\" fill-opacity=\"{:.2f}\"/>\n",
                         x + 1, y + 1, cell_w - 2, cell_h - 2, 0.06 + 0.94 * share);
      svg += text_at(x + cell_w / 2, y + cell_h / 2 + 4, short_number(v), share > 0.55 ? "tick on" : "tick", "middle");
    }
  }
  return svg + "</svg>\n";
}

std::string html_table(const std::vector<std::string>& headings, const std::vector<std::vector<std::string>>& rows) {
  std::string html = "<div class=\"scroll\"><table><thead><tr>";
  for (const std::string& h : headings) html += "<th>" + html_escape(h) + "</th>";
  html += "</tr></thead><tbody>\n";
  for (const auto& row : rows) {
    html += "<tr>";
    for (const std::string& cell : row) html += "<td>" + html_escape(cell) + "</td>";
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

std::string html_page(const std::string& title, const std::string& body) {
  static constexpr const char* kStyle = R"(
:root{--ink:#1d2433;--soft:#5b6475;--paper:#fff;--grid:#e3e6ec;--card:#f7f8fa;
--c0:#0b6bb8;--c1:#c2410c;--c2:#0f7b4f;--c3:#9333a8;--c4:#8a6500;--c5:#be123c;--c6:#0e7490;--c7:#4b5563}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#a0a8b8;--paper:#14171d;--grid:#2b303a;--card:#1b1f27;
--c0:#63b3f4;--c1:#fb9a5b;--c2:#4cc38a;--c3:#d08ae6;--c4:#e0b64a;--c5:#fb7c94;--c6:#5fc6da;--c7:#b3bac7}}
*{box-sizing:border-box}body{margin:0 auto;max-width:1360px;padding:24px 20px 60px;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:34px 0 8px}.note{color:var(--soft)}
ul.findings{padding-left:20px}ul.findings li{margin:5px 0;max-width:92ch}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,560px),1fr));gap:18px}
figure{margin:0;padding:12px 14px;background:var(--card);border:1px solid var(--grid);border-radius:8px;min-width:0}
figcaption{color:var(--soft);font-size:13.5px;margin-top:4px}svg{width:100%;height:auto;display:block}
svg text{fill:var(--ink);font-size:11.5px}svg .title{font-size:14px;font-weight:600}svg .tick{fill:var(--soft);font-size:11px}
svg .label{fill:var(--soft)}svg .on{fill:var(--paper)}svg .grid{stroke:var(--grid)}svg .mark{stroke:var(--soft);stroke-dasharray:3 3}
svg .line{fill:none;stroke-width:2}svg .band{stroke:none;fill-opacity:.16}svg .cell{fill:var(--c0)}svg .name{font-weight:600}
.line.c0{stroke:var(--c0)}.line.c1{stroke:var(--c1)}.line.c2{stroke:var(--c2)}.line.c3{stroke:var(--c3)}
.line.c4{stroke:var(--c4)}.line.c5{stroke:var(--c5)}.line.c6{stroke:var(--c6)}.line.c7{stroke:var(--c7)}
svg .band.c0,svg .dot.c0,svg .name.c0{fill:var(--c0)}svg .band.c1,svg .dot.c1,svg .name.c1{fill:var(--c1)}
svg .band.c2,svg .dot.c2,svg .name.c2{fill:var(--c2)}svg .band.c3,svg .dot.c3,svg .name.c3{fill:var(--c3)}
svg .band.c4,svg .dot.c4,svg .name.c4{fill:var(--c4)}svg .band.c5,svg .dot.c5,svg .name.c5{fill:var(--c5)}
svg .band.c6,svg .dot.c6,svg .name.c6{fill:var(--c6)}svg .band.c7,svg .dot.c7,svg .name.c7{fill:var(--c7)}
details{margin-top:6px}summary{cursor:pointer;color:var(--soft);font-size:13.5px}.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:3px 10px;border-bottom:1px solid var(--grid);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{color:var(--soft);font-weight:600}
)";
  return fmt::format("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
                     "content=\"width=device-width,initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n"
                     "<title>{}</title>\n<style>{}</style>\n</head>\n<body>\n{}</body>\n</html>\n",
                     html_escape(title), kStyle, body);
}

}  // namespace tsubu
