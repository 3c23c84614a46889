// What a study's cells say: curves over r, noise that harms as much as a codec, all of it as JSON.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "lens/study.h"

namespace tsubu {
namespace {

std::string what_name(Cell::What what) {
  return what == Cell::What::kWeights ? "weights" : what == Cell::What::kActivations ? "activations"
         : what == Cell::What::kBoth  ? "weights and activations" : "numerics";
}

}  // namespace

std::string Cell::id() const {
  if (what == What::kNumerics)
    return fmt::format("weights {}, activations {}", weights.empty() ? "float" : weights, activations.empty() ? "float" : activations);
  std::string text = what_name(what) + " " + perturbation.name();
  if (perturbation.r > 0) text += fmt::format(" r={:g}", perturbation.r);
  if (perturbation.is_random()) text += fmt::format(" seed={}", perturbation.seed);
  if (!role.empty()) text += " role=" + role;
  return text;
}

std::vector<CurvePoint> curve(const Study& study, const std::string& part, Cell::What what, const std::string& kind,
                              const std::string& role, double CellResult::*y) {
  std::map<double, std::vector<double>> values;
  for (const auto& [cell, result] : study.cells) {
    if (cell.part != part || cell.what != what || cell.role != role || !cell.perturbation.kind) continue;
    if (cell.perturbation.kind->name != kind) continue;
    const double x = cell.perturbation.kind->has_parameter ? cell.perturbation.parameter : cell.perturbation.r;
    values[x].push_back(result.*y);
  }
  std::vector<CurvePoint> points;
  for (const auto& [x, ys] : values) {
    CurvePoint p{x, 0, ys.front(), ys.front(), ys.size()};
    for (double v : ys) {
      p.y += v / static_cast<double>(ys.size());
      p.low = std::min(p.low, v);
      p.high = std::max(p.high, v);
    }
    points.push_back(p);
  }
  return points;
}

// The slope of the last two points is not believed farther than this times the last: harm saturates.
constexpr double kFarthest = 1.41;

std::optional<double> equivalent_noise(const Study& study, double kld) {
  const std::vector<CurvePoint> points = curve(study, "curves", Cell::What::kWeights, "gaussian");
  if (points.size() < 2 || kld <= 0) return {};
  // Between the points straight in logarithms, beyond them with the slope of the last two; harm grows with r² below.
  size_t i = 1;
  while (i + 1 < points.size() && points[i].y < kld) ++i;
  const CurvePoint &a = points[i - 1], &b = points[i];
  if (a.y <= 0 || b.y <= a.y) return {};
  if (kld < points.front().y) return points.front().x * std::sqrt(kld / points.front().y);
  const double share = std::log(kld / a.y) / std::log(b.y / a.y);
  const double r = a.x * std::pow(b.x / a.x, share);
  if (r > kFarthest * points.back().x) return {};
  return r;
}

Json to_json(const Study& study) {
  Json json;
  json["model"] = study.model;
  json["context"] = study.context;
  json["windows"] = study.n_windows;
  json["tokens_scored"] = study.n_tokens_scored;
  json["mean_nll"] = study.mean_nll;
  json["seconds"] = study.seconds;
  json["findings"] = to_json(std::span<const Remark>(findings(study)));
  json["cells"] = Json::array();
  for (const auto& [cell, r] : study.cells) {
    Json item{{"id", cell.id()}, {"part", cell.part}, {"what", what_name(cell.what)}};
    if (cell.what == Cell::What::kNumerics) {
      item["schemes"] = {{"weights", cell.weights}, {"activations", cell.activations}};
    } else {
      item["kind"] = cell.perturbation.name();
      item["seed"] = cell.perturbation.seed;
    }
    if (!cell.role.empty()) item["role"] = cell.role;
    item["r"] = r.r;
    item["kld"] = r.kld;
    item["kld_ci95"] = {r.kld_low, r.kld_high};
    item["ln_ppl_ratio"] = r.ln_ppl_ratio;
    item["top1_agreement"] = r.top1;
    json["cells"].push_back(std::move(item));
  }
  json["sensitivities"] = Json::array();
  for (size_t i = 0; i < study.sensitivities.size(); ++i)
    json["sensitivities"].push_back({{"name", study.sensitivity_names[i]},
                                     {"role", study.sensitivity_roles[i]},
                                     {"layer", study.sensitivity_layers[i]},
                                     {"r", study.sensitivities[i].r},
                                     {"kld", study.sensitivities[i].kld},
                                     {"alpha", study.sensitivities[i].alpha}});
  json["codecs"] = Json::array();
  for (const auto& [cell, r] : study.cells) {
    if (cell.part != "codecs") continue;
    Json item{{"type", cell.perturbation.name()}, {"r", r.r}, {"kld", r.kld}};
    if (const auto noise = equivalent_noise(study, r.kld)) {
      item["equivalent_r"] = *noise;
      item["efficiency"] = *noise / r.r;
    }
    for (const ErrorSlope& s : study.slopes)
      if (s.codec == cell.perturbation.name()) item["error_slope"] = s.slope;
    json["codecs"].push_back(std::move(item));
  }
  json["outlier_channels"] = Json::array();
  for (const OutlierChannel& o : study.outliers)
    json["outlier_channels"].push_back({{"input_of", o.weight}, {"channel", o.channel}, {"peak_over_rms", o.peak}, {"energy_share", o.share}});
  if (study.gradients) json["gradients"] = to_json(*study.gradients);
  json["left_out"] = study.left_out;
  json["cells_in_all"] = study.n_cells;
  json["resumed"] = study.n_resumed;
  return json;
}

}  // namespace tsubu
