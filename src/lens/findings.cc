// What a study says, in sentences with their numbers: each compares measured cells and says nothing where they are missing.
#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "lens/figures.h"
#include "lens/study.h"

namespace tsubu {
namespace {

using What = Cell::What;

const CurvePoint* point_at(std::vector<CurvePoint>&&, double) = delete;  // it would point into what is gone
const CurvePoint* point_at(const std::vector<CurvePoint>& points, double x) {
  for (const CurvePoint& p : points)
    if (std::abs(p.x - x) < 1e-9 * std::max(1.0, std::abs(x))) return &p;
  return nullptr;
}

std::string band(const CurvePoint& p) {
  if (p.n < 2) return fmt::format("{} (one seed)", short_number(p.y));
  return fmt::format("{} [{}, {}]", short_number(p.y), short_number(p.low), short_number(p.high));
}

const CellResult* cell_named(const Study& study, const std::string& id) {
  for (const auto& [cell, result] : study.cells)
    if (cell.id() == id) return &result;
  return nullptr;
}

void correlation_with_size(const Study& study, std::vector<std::string>& out) {
  for (const What what : {What::kWeights, What::kActivations}) {
    const char* of = what == What::kWeights ? "weights" : "activations";
    const auto plus = curve(study, "curves", what, "M+"), minus = curve(study, "curves", what, "M-"), flat = curve(study, "curves", what, "gaussian");
    const CurvePoint *p = nullptr, *m = nullptr, *g = nullptr;
    for (const CurvePoint& at : plus) {
      const CurvePoint *other = point_at(minus, at.x), *gauss = point_at(flat, at.x);
      if (!other || !gauss || (p && std::abs(at.x - 0.0625) > 1e-9)) continue;
      p = &at;
      m = other;
      g = gauss;
    }
    if (!p) continue;
    const bool is_sure = p->n > 1 && m->n > 1;
    const bool as_paper = is_sure && p->high < g->low && g->high < m->low, reversed = is_sure && m->high < p->low;
    out.push_back(fmt::format(
        "{}: at r = {}, noise that grows with the value costs {} nats, noise blind to it {}, noise that falls with it {}: {}", of,
        short_number(p->x), band(*p), band(*g), band(*m),
        as_paper ? "large values tolerate more, as the paper found"
        : reversed ? "the other way round than the paper found"
        : is_sure  ? "no clear order of the three within the spread of the seeds"
                   : "one seed, so the order is not sure yet"));
  }
}

void distribution(const Study& study, std::vector<std::string>& out) {
  double least = 1e300, most = 0, at = 0;
  size_t n = 0;
  for (const CurvePoint& g : curve(study, "curves", What::kWeights, "gaussian")) {
    std::vector<double> values = {g.y};
    for (const char* kind : {"uniform", "rademacher"}) {
      const std::vector<CurvePoint> points = curve(study, "curves", What::kWeights, kind);
      if (const CurvePoint* p = point_at(points, g.x)) values.push_back(p->y);
    }
    if (values.size() < 3) continue;
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    if (*high / *low < most / least && n > 0) continue;
    least = *low;
    most = *high;
    at = g.x;
    ++n;
  }
  if (n > 0)
    out.push_back(fmt::format("the distribution of the noise matters {}: Gaussian, uniform and ± noise in the weights are within {:.0f} % of each other (worst at r = {})",
                              most / least < 1.25 ? "little" : "more than the paper found", 100 * (most / least - 1), short_number(at)));
}

void tolerated_gamma(const Study& study, std::vector<std::string>& out) {
  const auto points = curve(study, "gamma", What::kWeights, "gamma");
  if (points.size() < 3) return;
  const auto best = std::min_element(points.begin(), points.end(), [](const auto& a, const auto& b) { return a.y < b.y; });
  const CurvePoint* flat = point_at(points, 0);
  std::string text = fmt::format("noise of one norm is most benign in the weights where it goes with |x|^{:g} ({} nats", best->x, band(*best));
  text += flat ? fmt::format("; {} at |x|^0)", band(*flat)) : ")";
  std::string near;
  double nearest = 1e300;
  for (const ErrorSlope& s : study.slopes)
    if (std::abs(s.slope - best->x) < nearest) {
      nearest = std::abs(s.slope - best->x);
      near = s.codec;
    }
  for (const ErrorSlope& s : study.slopes)
    if (s.codec == near) text += fmt::format("; of the codecs, {}'s errors come nearest to that, with |x|^{:.2f}", near, s.slope);
  out.push_back(text);
}

void sensitivities(const Study& study, std::vector<std::string>& out) {
  if (study.sensitivities.size() < 4) return;
  double total = 0;
  std::vector<std::pair<double, size_t>> order;
  for (size_t i = 0; i < study.sensitivities.size(); ++i) {
    total += study.sensitivities[i].alpha;
    order.emplace_back(-study.sensitivities[i].alpha, i);
  }
  std::sort(order.begin(), order.end());
  double share = 0;
  std::string names;
  size_t n = 0;
  for (; n < std::min<size_t>(3, order.size()); ++n) {
    share += -order[n].first / total;
    names += (n > 0 ? ", " : "") + study.sensitivity_names[order[n].second];
  }
  out.push_back(fmt::format("of the harm that equal relative noise does in every tensor, {} of {} tensors carry {:.0f} %: {}", n, order.size(), 100 * share, names));
  std::map<std::string, std::pair<double, int>> roles;
  for (size_t i = 0; i < study.sensitivities.size(); ++i) {
    roles[study.sensitivity_roles[i]].first += study.sensitivities[i].alpha / total;
    ++roles[study.sensitivity_roles[i]].second;
  }
  std::vector<std::pair<double, std::string>> sorted;
  for (const auto& [role, s] : roles) sorted.emplace_back(-s.first, role);
  std::sort(sorted.begin(), sorted.end());
  std::string text = "by role:";
  for (const auto& [s, role] : sorted) text += fmt::format(" {} {:.0f} %,", role, -100 * s);
  text.pop_back();
  out.push_back(text);
}

void clipping(const Study& study, std::vector<std::string>& out) {
  const CellResult* acts = cell_named(study, "activations clip=0.001");
  const CellResult* weights = cell_named(study, "weights clip=0.001");
  const CellResult* q4 = cell_named(study, "weights Q4_K");
  if (acts && q4 && acts->kld > 0)  // tokens of few channels have no 0.1 %
    out.push_back(fmt::format("clipping the largest 0.1 % of each token's activations costs {} nats, {} than Q4_K weights ({})", short_number(acts->kld),
                              acts->kld > q4->kld ? fmt::format("{:.1f} times more", acts->kld / q4->kld) : fmt::format("{:.1f} times less", q4->kld / acts->kld),
                              short_number(q4->kld)));
  if (weights && q4)
    out.push_back(fmt::format("clipping the largest 0.1 % of the weights of each tensor costs {} nats (r = {}), Q4_K {} (r = {})", short_number(weights->kld),
                              short_number(weights->r), short_number(q4->kld), short_number(q4->r)));
}

void halves(const Study& study, std::vector<std::string>& out) {
  const auto weights = curve(study, "curves", What::kWeights, "gaussian"), acts = curve(study, "curves", What::kActivations, "gaussian");
  for (const CurvePoint& a : acts)
    if (const CurvePoint* w = point_at(weights, a.x); w && std::abs(a.x - 0.0625) < 1e-9)
      out.push_back(fmt::format("the same relative Gaussian noise (r = {}) costs {} nats in activations and {} in weights: {} are the harder half",
                                short_number(a.x), short_number(a.y), short_number(w->y), a.y > w->y ? "activations" : "weights"));
  const CellResult* w4a16 = cell_named(study, "weights int4:channel, activations float");
  const CellResult* w8a8 = cell_named(study, "weights int8:channel, activations int8:token");
  const CellResult* w4a4 = cell_named(study, "weights int4:channel, activations int4:token");
  std::string text;
  const auto add = [&](const char* name, const CellResult* r) {
    if (r) text += fmt::format("{}{} {} nats (Δ ln PPL {:+.3g}, same top token {:.1f} %)", text.empty() ? "" : ", ", name, short_number(r->kld), r->ln_ppl_ratio, 100 * r->top1);
  };
  add("W4A16", w4a16);
  add("W8A8", w8a8);
  add("W4A4", w4a4);
  if (!text.empty()) out.push_back("integers, one scale for each output channel and token, linears of the blocks: " + text);
}

void codecs(const Study& study, std::vector<std::string>& out) {
  std::string best, worst;
  double high = 0, low = 1e300;
  for (const auto& [cell, r] : study.cells) {
    if (cell.part != "codecs" || r.r <= 0) continue;
    const auto noise = equivalent_noise(study, r.kld);
    if (!noise) continue;
    const double efficiency = *noise / r.r;
    const std::string text = fmt::format("{} (r = {}, as bad as Gaussian noise of {})", cell.perturbation.name(), short_number(r.r), short_number(*noise));
    if (efficiency > high) {
      high = efficiency;
      worst = text;
    }
    if (efficiency < low) {
      low = efficiency;
      best = text;
    }
  }
  if (!best.empty() && high > low)
    out.push_back(fmt::format("for its error, the codec that harms least is {}: {:.2f} of what such an error does as noise; most: {}, {:.2f}", best, low, worst, high));
}

}  // namespace

std::vector<std::string> findings(const Study& study) {
  std::vector<std::string> out;
  sensitivities(study, out);
  halves(study, out);
  correlation_with_size(study, out);
  tolerated_gamma(study, out);
  clipping(study, out);
  codecs(study, out);
  distribution(study, out);
  if (!study.outliers.empty()) {
    const OutlierChannel& o = study.outliers.front();
    out.push_back(fmt::format("the largest outlier channel is {} of the input of {}: up to {:.0f} times the input's root mean square, {:.1f} % of its energy",
                              o.channel, o.weight, o.peak, 100 * o.share));
  }
  if (!study.left_out.empty()) {
    std::string text = "not measured for want of time:";
    for (const std::string& part : study.left_out) text += " " + part + ";";
    text.pop_back();
    out.push_back(text);
  }
  return out;
}

}  // namespace tsubu
