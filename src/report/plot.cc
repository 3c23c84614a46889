#include "report/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/html.h"

namespace tsubu {
namespace {

constexpr double kWidth = 720, kHeight = 380, kLeft = 92, kRight = 20, kTop = 16, kBottom = 52;

struct Scale {
  double low = 0, high = 1, from = 0, to = 1;
  bool logarithmic = false;
  double at(double v) const {
    const double share =
        logarithmic ? (std::log(v) - std::log(low)) / (std::log(high) - std::log(low)) : (v - low) / (high - low);
    return from + std::clamp(share, 0.0, 1.0) * (to - from);
  }
};

std::string number(double v) {
  const double a = std::abs(v);
  return v == 0 ? "0" : a >= 1e5 || a < 1e-3 ? fmt::format("{:.0e}", v) : fmt::format("{:.4g}", v);
}

std::vector<double> ticks(const Scale& s) {
  std::vector<double> t;
  if (s.logarithmic) {
    const double decades = std::log10(s.high / s.low);
    for (double e = std::floor(std::log10(s.low)); e <= std::ceil(std::log10(s.high));
         e += std::max(1.0, std::round(decades / 8)))
      for (double m : decades < 2 ? std::vector<double>{1, 2, 5} : std::vector<double>{1}) {
        const double v = m * std::pow(10, e);
        if (v >= s.low * 0.999 && v <= s.high * 1.001) t.push_back(v);
      }
    return t;
  }
  const double rough = (s.high - s.low) / 6, power = std::pow(10, std::floor(std::log10(rough)));
  const double step = power * (rough / power < 1.5 ? 1 : rough / power < 3.5 ? 2 : rough / power < 7.5 ? 5 : 10);
  for (double v = std::ceil(s.low / step - 1e-9) * step; v <= s.high + step * 1e-9; v += step)
    t.push_back(std::abs(v) < step * 1e-9 ? 0 : v);
  return t;
}

Scale scale_of(const AxisSpec& spec, double low, double high, double from, double to) {
  Scale s;
  s.logarithmic = spec.logarithmic;
  if (spec.logarithmic) {
    low = std::max(low, 1e-12);
    high = std::max(high, low * 1.0001);
    s.low = spec.low.value_or(low / 1.6);
    s.high = spec.high.value_or(high * 1.6);
  } else {
    const double pad = high > low ? 0.08 * (high - low) : std::max(0.5, 0.1 * std::abs(high));
    s.low = spec.low.value_or(low - pad);
    s.high = spec.high.value_or(high + pad);
  }
  s.from = from;
  s.to = to;
  return s;
}

std::string begin_svg(double width, double height, const std::string& label) {
  return fmt::format(
      "<svg viewBox=\"0 0 {:g} {:g}\" role=\"img\" aria-label=\"{}\" xmlns=\"http://www.w3.org/2000/svg\">\n", width,
      height, escape(label));
}

std::string text(double x, double y, const std::string& content, const char* anchor = "middle",
                 const char* extra = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y, anchor, extra,
                     escape(content));
}

std::string line(double x1, double y1, double x2, double y2, const std::string& cls) {
  return fmt::format("<line class=\"{}\" x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\"/>\n", cls, x1, y1, x2,
                     y2);
}

std::string axes(const Scale& x, const Scale& y, const AxisSpec& xs, const AxisSpec& ys) {
  std::string out;
  for (double v : ticks(x))
    out += line(x.at(v), kTop, x.at(v), kHeight - kBottom, "grid") + text(x.at(v), kHeight - kBottom + 18, number(v));
  for (double v : ticks(y))
    out += line(kLeft, y.at(v), kWidth - kRight, y.at(v), "grid") + text(kLeft - 8, y.at(v) + 4, number(v), "end");
  out += text((kLeft + kWidth - kRight) / 2, kHeight - 10, xs.label, "middle", " class=\"axis\"");
  out += fmt::format(
      "<text class=\"axis\" transform=\"translate(16 {:.1f}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
      (kTop + kHeight - kBottom) / 2, escape(ys.label));
  return out;
}

std::string tip(const std::string& t) { return t.empty() ? "" : "<title>" + escape(t) + "</title>"; }
int color(int series) { return ((series % kSeriesColors) + kSeriesColors) % kSeriesColors; }

// Names and values go with their marks when a reader hides a series.
std::string series_class(int series) { return fmt::format(" class=\"l s{}\"", color(series)); }

constexpr size_t kMostDots = 48;  // on a curve

// The place of a name beside a point, by a letter's usual size: of names that would lie on each other one is left out (the
// list of series above the figure has it, and the point's tip).
struct Label {
  static constexpr double kLetter = 7.5, kHeight = 14;
  double x, y, begin, end;
  Label(double at_x, double at_y, bool ends_there, const std::string& name) : x(at_x), y(at_y) {
    const double width = kLetter * static_cast<double>(name.size());
    begin = ends_there ? x - width : x;
    end = begin + width;
  }
  bool meets(const Label& other) const {
    return begin < other.end && other.begin < end && std::abs(y - other.y) < kHeight;
  }
};

}  // namespace

std::string scatter_plot(const std::vector<PlotPoint>& points, const AxisSpec& xs, const AxisSpec& ys, bool front) {
  if (points.empty()) return "";
  double x_low = INFINITY, x_high = -INFINITY, y_low = INFINITY, y_high = -INFINITY;
  for (const PlotPoint& p : points) {
    x_low = std::min(x_low, p.x), x_high = std::max(x_high, p.x);
    y_low = std::min({y_low, p.y, p.low > 0 ? p.low : p.y}), y_high = std::max({y_high, p.y, p.high});
  }
  const Scale x = scale_of(xs, x_low, x_high, kLeft + 10, kWidth - kRight - 10),
              y = scale_of(ys, y_low, y_high, kHeight - kBottom, kTop);
  std::string out = begin_svg(kWidth, kHeight, ys.label + " / " + xs.label) + axes(x, y, xs, ys);
  if (front) {
    std::vector<PlotPoint> best = points;
    std::sort(best.begin(), best.end(),
              [](const PlotPoint& a, const PlotPoint& b) { return a.x != b.x ? a.x < b.x : a.y < b.y; });
    std::string path;
    double reached = INFINITY;
    for (const PlotPoint& p : best) {
      if (p.y >= reached) continue;
      reached = p.y;
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x.at(p.x), y.at(p.y));
    }
    out += "<path class=\"front\" d=\"" + path + "\"/>\n";
  }
  std::vector<Label> labels;
  for (const PlotPoint& p : points) {
    if (p.high > p.low)
      out += line(x.at(p.x), y.at(std::max(p.low, y.low)), x.at(p.x), y.at(p.high),
                  fmt::format("err s{}", color(p.series)));
    out += fmt::format("<circle class=\"dot s{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"6\">{}</circle>\n", color(p.series),
                       x.at(p.x), y.at(p.y), tip(p.tip));
    const bool left = x.at(p.x) > kWidth * 0.7;
    for (const double below : {-8.0, 18.0}) {
      const Label label(x.at(p.x) + (left ? -10 : 10), y.at(p.y) + below, left, p.label);
      if (std::any_of(labels.begin(), labels.end(), [&](const Label& l) { return l.meets(label); })) continue;
      out += text(label.x, label.y, p.label, left ? "end" : "start", series_class(p.series).c_str());
      labels.push_back(label);
      break;
    }
  }
  return out + "</svg>\n";
}

std::string curve_plot(const std::vector<Curve>& curves, const AxisSpec& xs, const AxisSpec& ys) {
  double x_low = INFINITY, x_high = -INFINITY, y_low = INFINITY, y_high = -INFINITY;
  for (const Curve& c : curves)
    for (size_t i = 0; i < c.x.size(); ++i) {
      x_low = std::min(x_low, c.x[i]), x_high = std::max(x_high, c.x[i]);
      y_low = std::min(y_low, c.y[i]), y_high = std::max(y_high, c.y[i]);
    }
  if (!(x_high > x_low)) return "";
  AxisSpec exact = xs;
  exact.low = xs.low.value_or(x_low);
  exact.high = xs.high.value_or(x_high);
  const Scale x = scale_of(exact, x_low, x_high, kLeft, kWidth - kRight),
              y = scale_of(ys, y_low, y_high, kHeight - kBottom, kTop);
  std::string out = begin_svg(kWidth, kHeight, ys.label + " / " + xs.label) + axes(x, y, xs, ys);
  double legend = kTop + 14;
  for (const Curve& c : curves) {
    std::string path;
    for (size_t i = 0; i < c.x.size(); ++i)
      path += fmt::format("{}{:.1f} {:.1f}", i ? "L" : "M", x.at(c.x[i]), y.at(c.y[i]));
    out += fmt::format("<path class=\"curve s{}\" d=\"{}\">{}</path>\n", color(c.series), path, tip(c.label));
    out += line(kLeft + 12, legend - 4, kLeft + 36, legend - 4, fmt::format("curve s{}", color(c.series))) +
           text(kLeft + 42, legend, c.label, "start", series_class(c.series).c_str());
    for (size_t i = 0; i < c.x.size() && c.x.size() <= kMostDots; ++i)
      out += fmt::format("<circle class=\"dot s{}\" data-series=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\">{}</circle>\n", color(c.series),
                         escape(c.label), x.at(c.x[i]), y.at(c.y[i]), tip(fmt::format("{}: {}, {}", c.label, number(c.x[i]), number(c.y[i]))));
    legend += 22;
  }
  return out + "</svg>\n";
}

std::string bar_plot(const std::vector<Bar>& bars, const std::string& unit) {
  if (bars.empty()) return "";
  constexpr double kRow = 46, kBarLeft = 12;
  double high = 0;
  for (const Bar& b : bars) high = std::max({high, b.value, b.limit.value_or(0)});
  if (!(high > 0)) return "";
  const double height = kRow * static_cast<double>(bars.size()) + 8, width = kWidth - 170;
  std::string out = begin_svg(kWidth, height, unit);
  for (size_t i = 0; i < bars.size(); ++i) {
    const Bar& b = bars[i];
    const double y = kRow * static_cast<double>(i) + 20, w = std::max(1.0, width * b.value / high);
    out += text(kBarLeft, y - 5, b.label, "start");
    out += fmt::format(
        "<rect class=\"bar s{}\" x=\"{:g}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"18\" rx=\"3\">{}</rect>\n",
        color(b.series), kBarLeft, y, w, tip(b.tip));
    double end = w;
    if (b.limit) {
      const double x = kBarLeft + width * *b.limit / high;
      out += line(x, y - 3, x, y + 21, "limit");
      if (std::abs(x - kBarLeft - w) < 90 && x > kBarLeft + w) end = x - kBarLeft;
    }
    out += text(kBarLeft + end + 8, y + 14, b.value_text, "start", series_class(b.series).c_str());
  }
  return out + "</svg>\n";
}

std::string interval_plot(const std::vector<IntervalRow>& rows, const std::string& axis, std::optional<double> margin) {
  if (rows.empty()) return "";
  constexpr double kRow = 42;
  double low = margin ? -*margin : 0, high = 0;
  for (const IntervalRow& r : rows) low = std::min(low, r.low), high = std::max(high, r.high);
  const double height = kRow * static_cast<double>(rows.size()) + 46;
  const Scale x = scale_of({axis, false, {}, {}}, low, high, 16, kWidth - 16);
  std::string out = begin_svg(kWidth, height, axis);
  for (double v : ticks(x))
    out += line(x.at(v), 4, x.at(v), height - 40, "grid") + text(x.at(v), height - 24, number(v));
  out += line(x.at(0), 4, x.at(0), height - 40, "zero");
  if (margin) out += line(x.at(-*margin), 4, x.at(-*margin), height - 40, "limit");
  for (size_t i = 0; i < rows.size(); ++i) {
    const IntervalRow& r = rows[i];
    const double y = kRow * static_cast<double>(i) + 30;
    out += text(20, y - 12, r.label, "start");
    out += line(x.at(r.low), y, x.at(r.high), y, fmt::format("err s{}", color(r.series)));
    out += fmt::format("<circle class=\"dot s{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"6\">{}</circle>\n", color(r.series),
                       x.at(r.value), y, tip(r.tip));
  }
  return out + text(kWidth / 2, height - 6, axis, "middle", " class=\"axis\"") + "</svg>\n";
}

std::string stored_plot(const std::vector<double>& before, const std::vector<double>& after, const std::string& before_name,
                        const std::string& after_name) {
  if (before.empty() || before.size() != after.size()) return "";
  constexpr double kTall = 260, kSide = 56, kUnder = 12;
  double most = 1e-12;
  for (size_t i = 0; i < before.size(); ++i) most = std::max({most, std::abs(before[i]), std::abs(after[i])});
  const Scale y = scale_of({"", false, -most * 1.08, most * 1.08}, -most, most, kTall - kUnder, 28);
  const double step = (kWidth - kSide - kRight) / static_cast<double>(before.size());
  std::string out = begin_svg(kWidth, kTall, before_name + " / " + after_name);
  for (double v : ticks(y)) out += line(kSide, y.at(v), kWidth - kRight, y.at(v), "grid") + text(kSide - 6, y.at(v) + 4, number(v), "end", " class=\"small\"");
  out += line(kSide, y.at(0), kWidth - kRight, y.at(0), "zero");
  for (size_t i = 0; i < before.size(); ++i) {
    const double x = kSide + step * (static_cast<double>(i) + 0.5);
    const std::string told = tip(fmt::format("{} → {}", number(before[i]), number(after[i] + 0.0)));
    out += line(x, y.at(before[i]), x, y.at(after[i]), "err s2");
    out += fmt::format("<circle class=\"ring s0\" data-series=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\">{}</circle>", escape(before_name), x, y.at(before[i]), told);
    out += fmt::format("<circle class=\"dot s1\" data-series=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2.5\">{}</circle>\n", escape(after_name), x, y.at(after[i]), told);
  }
  out += fmt::format("<circle class=\"ring s0\" cx=\"{:g}\" cy=\"12\" r=\"4\"/>", kSide + 8) + text(kSide + 18, 16, before_name, "start") +
         fmt::format("<circle class=\"dot s1\" cx=\"{:g}\" cy=\"12\" r=\"3\"/>", kWidth / 2) + text(kWidth / 2 + 10, 16, after_name, "start");
  return out + "</svg>\n";
}

std::string heat_map(const std::vector<std::string>& rows, const std::vector<std::string>& columns,
                     const std::vector<std::vector<double>>& values, const std::vector<std::vector<std::string>>& tips,
                     const std::vector<std::vector<bool>>& marked, const std::string& label) {
  if (rows.empty() || columns.empty()) return "";
  double low = INFINITY, high = 0;
  for (const auto& row : values)
    for (double v : row)
      if (std::isfinite(v) && v > 0) low = std::min(low, v), high = std::max(high, v);
  if (high <= 0) return "";
  if (high < low * 2) low = high / 2;
  constexpr double kLabel = 70, kHead = 30;
  const double cell = (kWidth - kLabel - 8) / static_cast<double>(columns.size()),
               tall = std::clamp(420.0 / static_cast<double>(rows.size()), 12.0, 34.0);
  std::string out = begin_svg(kWidth, kHead + tall * static_cast<double>(rows.size()) + 8, label);
  for (size_t c = 0; c < columns.size(); ++c)
    out += text(kLabel + cell * (static_cast<double>(c) + 0.5), kHead - 10, columns[c], "middle", " class=\"small\"");
  for (size_t r = 0; r < rows.size(); ++r) {
    const double y = kHead + tall * static_cast<double>(r);
    out += text(kLabel - 8, y + tall / 2 + 4, rows[r], "end", " class=\"small\"");
    for (size_t c = 0; c < columns.size(); ++c) {
      const double v = values[r][c];
      if (std::isnan(v)) continue;
      const double share = !std::isfinite(v) ? 1
                           : v <= 0          ? 0
                                    : std::clamp(0.08 + 0.92 * std::log(v / low) / std::log(high / low), 0.04, 1.0);
      out += fmt::format(
          "<rect class=\"cell{}\" fill-opacity=\"{:.2f}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" "
          "height=\"{:.1f}\">{}</rect>\n",
          marked[r][c] ? " bad" : "", share, kLabel + cell * static_cast<double>(c) + 1, y + 1, cell - 2, tall - 2,
          tip(tips[r][c]));
      if (cell >= 58 && tall >= 15)
        out += text(kLabel + cell * (static_cast<double>(c) + 0.5), y + tall / 2 + 4, number(std::round(v * 1e4) / 1e4),
                    "middle", share > 0.55 ? " class=\"small on\"" : " class=\"small\"");
    }
  }
  return out + "</svg>\n";
}

}  // namespace tsubu
