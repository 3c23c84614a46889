#include "round/methods.h"

#include <vector>

#include "base/error.h"
#include "base/size.h"

namespace tsubu {
namespace {

constexpr RoundingMethod kMethods[] = {
    {"nearest", "nothing", "simulated formats", "the plain rule of each format",
     "The largest magnitude on the outermost level, each weight to its nearest level", true, SimStart::kNearest},
    {"search", "importance (optional)", "every codec; simulated formats",
     "weighted least squares over candidate scales",
     "Scales and minimums with the least weighted squared error, each block alone", true, SimStart::kSearch},
    {"hqq", "nothing", "simulated formats without tables", "Badri & Shaji 2023, Half-Quadratic Quantization",
     "Zero (or scale) of least p-norm error, p = 0.7, by half-quadratic splitting", true, SimStart::kHqq},
    {"power", "nothing", "power formats", "Gong et al. 2403.06408; Yvinec et al. 2308.05600",
     "Evenly spaced after a root: the cube-root quantizer and its general exponent", true, SimStart::kPower},
    {"gptq-plain", "Gram matrices", "simulated formats", "Frantar et al. 2210.17323",
     "Error feedback with the largest magnitude's scale at each group's entry, no column order", true,
     SimStart::kGptqPlain},
    {"gptq", "Gram matrices", "codecs with a grid; simulated formats",
     "Frantar et al. 2210.17323, Chee et al. 2307.13304; choice of scales: own",
     "Error feedback with scales chosen from the compensated weights", true, SimStart::kGptq},
    {"refine", "Gram matrices", "codecs with a grid; simulated formats",
     "coordinate descent on the quadratic form; own moves",
     "Moves codes, scales, zeros and tables as long as the output error falls", false, SimStart::kSearch},
    {"kmeans", "importance (optional)", "kmeans formats", "Lloyd 1982, weighted as in Kim et al. 2306.07629",
     "A table of levels for each row or group; every method but hqq and power starts from it", false,
     SimStart::kSearch},
};

}  // namespace

std::span<const RoundingMethod> rounding_methods() { return kMethods; }

SimMethod parse_sim_method(std::string_view spec, int passes) {
  constexpr std::string_view kRefine = "+refine";
  SimMethod method;
  std::string_view start = spec;
  if (spec == kRefine.substr(1)) start = "search";
  if (spec.ends_with(kRefine)) start = spec.substr(0, spec.size() - kRefine.size());
  if (start != spec) method.descent_passes = passes;
  std::vector<std::string> names;
  for (const RoundingMethod& m : kMethods) {
    if (!m.is_start) continue;
    names.emplace_back(m.name);
    if (m.name != start) continue;
    method.start = m.start;
    return method;
  }
  const std::string nearest = nearest_name(start.substr(0, 64), names.data(), names.size());
  fail(ExitCode::kUsage, "method '{}': expected {}, each also with '+refine'{}", spec.substr(0, 64),
       fmt::join(names, ", "), nearest.empty() ? "" : ": did you mean '" + nearest + "'?");
}

}  // namespace tsubu
