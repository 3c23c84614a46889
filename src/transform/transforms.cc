#include "transform/transforms.h"

#include <algorithm>

#include "base/error.h"
#include "transform/rotate.h"
#include "transform/smoothquant.h"

namespace tsubu {
namespace {

constexpr std::string_view kOutputError = "squared error of the outputs after rounding, relative to the outputs";

// To add a transform: a function that changes an EditableModel, and an entry here.
constexpr Transform kTransforms[] = {
    {"rotate-residual", "R1: turn the residual stream by a random Hadamard matrix (RMS norms only)",
     "QuaRot, arXiv:2404.00456; SpinQuant, arXiv:2405.16406", "", false, false, true,
     [](EditableModel& model, const TransformOptions& o, ThreadPool& pool, TransformReport& report) {
       report.notes = rotate_residual(model, o.seed, pool);
     }},
    {"rotate-heads", "R2: turn every value head by a random Hadamard matrix",
     "QuaRot, arXiv:2404.00456; SpinQuant, arXiv:2405.16406", "", false, false, true,
     [](EditableModel& model, const TransformOptions& o, ThreadPool& pool, TransformReport& report) {
       report.notes = rotate_heads(model, o.seed, pool);
     }},
    {"smoothquant", "Move outliers of activations into the weights, for 8 bits on both sides", "arXiv:2211.10438",
     "searched: squared error of the outputs in W8A8, relative to the outputs; given α: largest over median channel "
     "maximum",
     true, false, true,
     [](EditableModel& model, const TransformOptions& o, ThreadPool& pool, TransformReport& report) {
       SmoothquantOptions options;
       options.alpha = o.smoothquant_alpha;
       apply_smoothquant(model, o.source, options, pool, report);
     }},
    {"awq", "Scale channels that see large activations up before rounding", "arXiv:2306.00978", kOutputError, true,
     true, true,
     [](EditableModel& model, const TransformOptions& o, ThreadPool& pool, TransformReport& report) {
       apply_awq(model, o.source, o.awq, pool, report);
     }},
    {"clip", "Clip each block's largest weights where rounding gains by it (changes the model)", "arXiv:2306.00978",
     kOutputError, true, true, false,
     [](EditableModel& model, const TransformOptions& o, ThreadPool& pool, TransformReport& report) {
       apply_clipping(model, o.source, o.awq, pool, report);
     }},
};

}  // namespace

std::span<const Transform> transforms() { return kTransforms; }

std::vector<std::string> transforms_named(const std::vector<std::string>& words) {
  std::vector<std::string> names;
  for (const std::string& word : words) {
    const size_t before = names.size();
    for (const Transform& t : transforms())
      if (t.name == word || (word == "rotate" && t.name.starts_with("rotate-")) || (word == "smooth" && t.name == "smoothquant"))
        names.emplace_back(t.name);
    if (names.size() > before) continue;
    std::string known = "rotate, smooth";
    for (const Transform& t : transforms()) known += fmt::format(", {}", t.name);
    fail(ExitCode::kUsage, "unknown transform '{}': expected one of {}", word, known);
  }
  return names;
}

TransformResult apply_transforms(const Model& model, const std::vector<std::string>& names,
                                 const TransformOptions& options, ThreadPool& pool) {
  for (const std::string& name : names)
    if (std::none_of(transforms().begin(), transforms().end(), [&](const Transform& t) { return t.name == name; }))
      fail(ExitCode::kUsage, "unknown transform '{}'", name);
  if (names.empty()) fail(ExitCode::kUsage, "transform: nothing to do: expected one of the transforms (see --help)");
  TransformResult result;
  result.model = std::make_unique<EditableModel>(model, options.folder);
  std::vector<std::string> done;
  for (const Transform& transform : transforms()) {
    if (std::find(names.begin(), names.end(), transform.name) == names.end()) continue;
    if (transform.needs_activations && options.source.statistics && !done.empty())
      fail(ExitCode::kUsage,
           "{}: statistics of the model as it is do not describe it after --{}: give --text instead of --stats",
           transform.name, done.back());
    TransformReport report{transform.name, {}, {}};
    transform.apply(*result.model, options, pool, report);
    result.reports.push_back(std::move(report));
    done.emplace_back(transform.name);
  }
  result.model->metadata().set("tsubu.transform", GgufValue::strings(done));
  return result;
}

Json to_json(const TransformReport& report) {
  Json json;
  json["name"] = report.name;
  json["notes"] = report.notes;
  json["groups"] = Json::array();
  for (const TransformedGroup& group : report.groups)
    json["groups"].push_back({{"linears", group.linears},
                              {"alpha", group.alpha},
                              {"error_before", group.error_before},
                              {"error", group.error}});
  return json;
}

}  // namespace tsubu
