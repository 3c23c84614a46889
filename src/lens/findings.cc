// What a study says, in sentences with their numbers: each compares measured cells and says nothing where they are missing.
#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "base/size.h"
#include "lens/remarks.h"
#include "lens/study.h"
#include "page/html.h"

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
  if (p.n < 2) return fmt::format("{} (n = 1)", short_number(p.y));
  return fmt::format("{} [{}, {}]", short_number(p.y), short_number(p.low), short_number(p.high));
}

const CellResult* cell_named(const Study& study, const std::string& id) {
  for (const auto& [cell, result] : study.cells)
    if (cell.id() == id) return &result;
  return nullptr;
}

void correlation_with_size(const Study& study, std::vector<Remark>& out) {
  for (const What what : {What::kWeights, What::kActivations}) {
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
    std::vector<std::string> args = {short_number(p->x), band(*p), band(*g), band(*m)};
    const bool in_weights = what == What::kWeights;
    out.push_back(remark(
        as_paper   ? (in_weights ? "lens.size.weights.as_paper"_lens : "lens.size.activations.as_paper"_lens)
        : reversed ? (in_weights ? "lens.size.weights.reversed"_lens : "lens.size.activations.reversed"_lens)
        : is_sure  ? (in_weights ? "lens.size.weights.unclear"_lens : "lens.size.activations.unclear"_lens)
                   : (in_weights ? "lens.size.weights.one_seed"_lens : "lens.size.activations.one_seed"_lens),
        std::move(args)));
  }
}

void distribution(const Study& study, std::vector<Remark>& out) {
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
  if (n == 0) return;
  std::vector<std::string> args = {fmt::format("{:.0f}", 100 * (most / least - 1)), short_number(at)};
  out.push_back(remark(most / least < 1.25 ? "lens.distribution.little"_lens : "lens.distribution.more"_lens,
                      std::move(args)));
}

void tolerated_gamma(const Study& study, std::vector<Remark>& out) {
  const auto points = curve(study, "gamma", What::kWeights, "gamma");
  if (points.size() < 3) return;
  const auto best = std::min_element(points.begin(), points.end(), [](const auto& a, const auto& b) { return a.y < b.y; });
  const CurvePoint* flat = point_at(points, 0);
  const std::string power = fmt::format("{:g}", best->x);
  out.push_back(flat ? remark("lens.gamma.flat"_lens, {power, band(*best), band(*flat)}) : remark("lens.gamma"_lens, {power, band(*best)}));
  if (flat && flat->x != best->x && flat->low < best->high) return;  // the seeds do not tell them apart
  std::string near;
  double nearest = 1e300;
  for (const ErrorSlope& s : study.slopes)
    if (std::abs(s.slope - best->x) < nearest) {
      nearest = std::abs(s.slope - best->x);
      near = s.codec;
    }
  for (const ErrorSlope& s : study.slopes)
    if (s.codec == near) out.push_back(remark("lens.gamma.codec"_lens, {near, fmt::format("{:.2f}", s.slope)}));
}

void sensitivities(const Study& study, std::vector<Remark>& out) {
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
  out.push_back(remark("lens.sensitive"_lens, {std::to_string(n), std::to_string(order.size()), fmt::format("{:.0f}", 100 * share), names}));
  std::map<std::string, std::pair<double, int>> roles;
  for (size_t i = 0; i < study.sensitivities.size(); ++i) {
    roles[study.sensitivity_roles[i]].first += study.sensitivities[i].alpha / total;
    ++roles[study.sensitivity_roles[i]].second;
  }
  std::vector<std::pair<double, std::string>> sorted;
  for (const auto& [role, s] : roles) sorted.emplace_back(-s.first, role);
  std::sort(sorted.begin(), sorted.end());
  std::string shares;
  for (const auto& [s, role] : sorted) shares += fmt::format("{}{} {:.0f} %", shares.empty() ? "" : ", ", role, -100 * s);
  out.push_back(remark("lens.roles"_lens, {shares}));
}

void clipping(const Study& study, std::vector<Remark>& out) {
  const CellResult* acts = cell_named(study, "activations clip=0.001");
  const CellResult* weights = cell_named(study, "weights clip=0.001");
  const CellResult* q4 = cell_named(study, "weights Q4_K");
  if (acts && q4 && acts->kld > 0) {  // tokens of few channels have no 0.1 %
    const bool more = acts->kld > q4->kld;
    std::vector<std::string> args = {short_number(acts->kld), fmt::format("{:.1f}", more ? acts->kld / q4->kld : q4->kld / acts->kld), short_number(q4->kld)};
    out.push_back(remark(more ? "lens.clip.activations.more"_lens : "lens.clip.activations.less"_lens, std::move(args)));
  }
  if (weights && q4)
    out.push_back(remark("lens.clip.weights"_lens, {short_number(weights->kld), short_number(weights->r), short_number(q4->kld), short_number(q4->r)}));
}

void halves(const Study& study, std::vector<Remark>& out) {
  const auto weights = curve(study, "curves", What::kWeights, "gaussian"), acts = curve(study, "curves", What::kActivations, "gaussian");
  for (const CurvePoint& a : acts)
    if (const CurvePoint* w = point_at(weights, a.x); w && std::abs(a.x - 0.0625) < 1e-9)
      out.push_back(remark(a.y > w->y ? "lens.half.activations"_lens : "lens.half.weights"_lens,
                          {short_number(a.x), short_number(a.y), short_number(w->y)}));
  const CellResult* w4a16 = cell_named(study, "weights int4:channel, activations float");
  const CellResult* w8a8 = cell_named(study, "weights int8:channel, activations int8:token");
  const CellResult* w4a4 = cell_named(study, "weights int4:channel, activations int4:token");
  const auto add = [&](const char* name, const CellResult* r) {
    if (r)
      out.push_back(remark("lens.integers"_lens, {name, short_number(r->kld), fmt::format("{:+.3g}", r->ln_ppl_ratio), fmt::format("{:.1f}", 100 * r->top1)}));
  };
  add("W4A16", w4a16);
  add("W8A8", w8a8);
  add("W4A4", w4a4);
}

void codecs(const Study& study, std::vector<Remark>& out) {
  std::vector<std::string> best, worst;  // name, r, as bad as noise of
  double high = 0, low = 1e300;
  for (const auto& [cell, r] : study.cells) {
    if (cell.part != "codecs" || r.r <= 0) continue;
    const auto noise = equivalent_noise(study, r.kld);
    if (!noise) continue;
    const double efficiency = *noise / r.r;
    const std::vector<std::string> args = {cell.perturbation.name(), short_number(r.r), short_number(*noise)};
    if (efficiency > high) {
      high = efficiency;
      worst = args;
    }
    if (efficiency < low) {
      low = efficiency;
      best = args;
    }
  }
  if (!best.empty() && high > low)
    out.push_back(remark("lens.codecs"_lens, {best[0], best[1], best[2], fmt::format("{:.2f}", low), worst[0], worst[1], worst[2], fmt::format("{:.2f}", high)}));
}

void gradients(const Study& study, std::vector<Remark>& out) {
  if (!study.gradients || study.gradients->alpha_ratio <= 0) return;
  const GradientStudy& g = *study.gradients;
  out.push_back(remark("lens.gradients.alpha"_lens,
                       {fmt::format("{}", g.tensors.size()), format_duration(g.fisher_seconds), format_duration(g.probe_seconds),
                        fmt::format("{:.2f}", g.alpha_ratio), fmt::format("{:.0f}", 100 * g.alpha_scatter), fmt::format("{:.3f}", g.alpha_spearman)}));
  if (g.agreements.empty()) return;
  const auto rank = [&](std::string_view predictor) {
    for (const Agreement& a : g.agreements)
      if (a.predictor == predictor) return fmt::format("{:.3f}", a.spearman);
    return std::string("–");
  };
  out.push_back(remark("lens.gradients.rank"_lens, {fmt::format("{}", g.n_costs - g.n_left_out), rank("probe-output"), rank("fisher-output"),
                                                    rank("fisher-diagonal"), rank("first-order")}));
}

}  // namespace

std::vector<Remark> findings(const Study& study) {
  std::vector<Remark> out;
  gradients(study, out);
  sensitivities(study, out);
  halves(study, out);
  correlation_with_size(study, out);
  tolerated_gamma(study, out);
  clipping(study, out);
  codecs(study, out);
  distribution(study, out);
  if (!study.outliers.empty()) {
    const OutlierChannel& o = study.outliers.front();
    out.push_back(remark("lens.outlier"_lens, {fmt::format("{}", o.channel), o.weight, fmt::format("{:.0f}", o.peak), fmt::format("{:.1f}", 100 * o.share)}));
  }
  if (!study.left_out.empty()) {
    std::string parts;
    for (const std::string& part : study.left_out) parts += (parts.empty() ? "" : ", ") + part;
    out.push_back(remark("lens.left_out"_lens, {parts}));
  }
  return out;
}

}  // namespace tsubu
