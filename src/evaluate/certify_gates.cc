#include "evaluate/certify_gates.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "base/size.h"
#include "evaluate/paired.h"
#include "evaluate/remarks.h"

namespace tsubu {
namespace {

using Value = std::optional<Measured>;

constexpr double kIntervalErrors = 1.959963985;  // standard errors from a mean to the end of its 95 % interval

bool measured_texts(const CandidateResult& c) { return c.error.empty() && !c.by_text.empty(); }
Value plain(double v) { return Measured{v, v}; }

Value max_kld(const CandidateResult& c, const CertifyResult&) {
  if (!measured_texts(c)) return {};
  return Measured{c.divergence.mean, c.divergence.mean_ci95.high};
}
Value max_kld_p99(const CandidateResult& c, const CertifyResult&) {
  return measured_texts(c) ? plain(c.divergence.p99) : Value();
}
Value max_text_kld(const CandidateResult& c, const CertifyResult&) {
  if (!measured_texts(c)) return {};
  Measured worst;
  for (const TextDivergence& t : c.by_text)
    if (t.divergence.mean >= worst.value) worst = {t.divergence.mean, t.divergence.mean_ci95.high};
  return worst;
}
Value min_top1(const CandidateResult& c, const CertifyResult&) {
  if (!measured_texts(c)) return {};
  return Measured{c.divergence.top1_agreement, c.divergence.top1_ci95.low};
}
Value max_ppl_ratio(const CandidateResult& c, const CertifyResult&) {
  if (!measured_texts(c)) return {};
  return Measured{std::exp(c.divergence.ln_ppl_ratio), std::exp(c.divergence.ln_ppl_ratio_ci95.high)};
}
Value max_flips(const CandidateResult& c, const CertifyResult& all) {
  if (c.tasks.empty()) return {};
  double worst = 0;
  for (const TaskResult& t : c.tasks) worst = std::max(worst, counted(all.tasks[t.task], t.comparison).flips());
  return plain(worst);
}
// The largest loss of right answers that is not ruled out, in points of share.
Value margin(const CandidateResult& c, const CertifyResult& all) {
  if (c.tasks.empty()) return {};
  Measured worst = {-1, -1};
  for (const TaskResult& t : c.tasks) {
    const double loss = 0 - counted(all.tasks[t.task], t.comparison).difference();
    // The test decides (adjusted for all candidates and tasks); its p is turned into the bound's side of the limit.
    const double limit = all.options.limits.at("margin");
    const bool shown = t.non_inferior_holm_p <= all.options.alpha;
    const double bound = shown ? std::min(limit, std::max(loss, -t.difference_ci95.low))
                               : std::max(std::nextafter(limit, 2.0), -t.difference_ci95.low);
    if (bound >= worst.bound) worst = {loss, bound};
  }
  return worst;
}
Value min_speedup(const CandidateResult& c, const CertifyResult& all) {
  if (c.speed.is_null() || all.base_speed.is_null()) return {};
  return plain(c.speed["decode"]["tokens_per_second"].get<double>() /
               all.base_speed["decode"]["tokens_per_second"].get<double>());
}
Value max_memory(const CandidateResult& c, const CertifyResult&) {
  return c.speed.is_null() ? Value() : plain(c.speed["peak_rss_bytes"].get<double>());
}
Value max_size(const CandidateResult& c, const CertifyResult&) { return plain(static_cast<double>(c.size_bytes)); }
Value max_overlap(const CandidateResult& c, const CertifyResult&) { return plain(c.overlap); }
Value max_unended(const CandidateResult& c, const CertifyResult&) {
  if (!c.generation) return {};
  return plain(c.generation->items.empty() ? 0
                                           : (static_cast<double>(c.generation->unended) - c.generation->base_unended) /
                                                 static_cast<double>(c.generation->items.size()));
}
Value weights(const CandidateResult& c, const CertifyResult&) {
  return c.weights ? plain(c.weights->n_findings()) : Value();
}
Value configuration(const CandidateResult& c, const CertifyResult&) {
  return c.weights ? plain(static_cast<double>(c.weights->configuration.size())) : Value();
}
Value runs(const CandidateResult& c, const CertifyResult&) { return plain(c.error.empty() ? 0 : 1); }

constexpr GateKind kKinds[] = {
    {"max_kld", "--max-kld", "X", "Mean divergence, upper end of its 95 % interval, in nats", false, {}, max_kld},
    {"max_kld_p99", "--max-kld-p99", "X", "Divergence that 99 % of the tokens stay below", false, {}, max_kld_p99},
    {"max_text_kld",
     "--max-text-kld",
     "X",
     "Mean divergence of the worst text, upper end of its interval",
     false,
     {},
     max_text_kld},
    {"min_top1",
     "--min-top1",
     "SHARE",
     "Tokens with the same likeliest token, lower end of the interval, 0 … 1",
     true,
     {},
     min_top1},
    {"max_ppl_ratio",
     "--max-ppl-ratio",
     "X",
     "Perplexity over the base's, upper end of the interval",
     false,
     {},
     max_ppl_ratio},
    {"max_flips",
     "--max-flips",
     "SHARE",
     "Questions whose answer turned right or wrong, in the worst task, 0 … 1",
     false,
     {},
     max_flips},
    {"margin",
     "--margin",
     "SHARE",
     "Not inferior: no task loses so many of its right answers or more (one-sided test), 0 … 1",
     false,
     {},
     margin},
    {"max_unended",
     "--max-unended",
     "SHARE",
     "Prompts that come to no end, beyond the base's, 0 … 1",
     false,
     {},
     max_unended},
    {"min_speedup", "--min-speedup", "X", "Decode speed over the base's", true, {}, min_speedup},
    {"max_memory", "--max-memory", "SIZE", "Peak memory of running it", false, {}, max_memory},
    {"max_size", "--max-size", "SIZE", "Bytes of the weights", false, {}, max_size},
    {"max_overlap",
     "--max-overlap",
     "SHARE",
     "Certification text that stands in calibration text (runs of 13 words), 0 … 1",
     false,
     {},
     max_overlap},
    {"weights", "", "N", "Tensors that are not a rounding of the base's", false, 0.0, weights},
    {"configuration", "", "N", "Settings that differ from the base's", false, 0.0, configuration},
    {"runs", "", "N", "Logits that are not finite", false, 0.0, runs},
};

constexpr size_t kFindingsNamed = 3;

// What to look at when a gate failed.
std::vector<Remark> reasons_of(const GateKind& kind, const CandidateResult& c, const CertifyResult& all) {
  if (kind.name == "runs") return {c.error};
  if (kind.name == "configuration" && c.weights) return c.weights->configuration;
  if (kind.name == "weights" && c.weights) {
    std::vector<Remark> found;
    for (const TensorDifference& d : c.weights->tensors)
      if (!d.finding.empty()) {
        found.push_back(d.finding);
        found.back().about = d.name;
      }
    if (found.size() > kFindingsNamed) {
      const Remark more = remark("gate.more"_said, {std::to_string(found.size() - kFindingsNamed)});
      found.resize(kFindingsNamed);
      found.push_back(more);
    }
    return found;
  }
  if (kind.name == "max_overlap") return {remark("gate.overlap"_said, {c.overlap_with})};
  if (kind.name == "max_flips" || kind.name == "margin") {
    const auto worst = std::max_element(c.tasks.begin(), c.tasks.end(), [&](const TaskResult& a, const TaskResult& b) {
      const PairedCounts &x = counted(all.tasks[a.task], a.comparison), &y = counted(all.tasks[b.task], b.comparison);
      return kind.name == "margin" ? x.difference() > y.difference() : x.flips() < y.flips();
    });
    if (worst == c.tasks.end()) return {};
    const PairedCounts& counts = counted(all.tasks[worst->task], worst->comparison);
    return {remark_about(all.tasks[worst->task].name, "gate.flips"_said,
                        {fmt::format("{}", counts.lost), fmt::format("{}", counts.gained), fmt::format("{}", counts.n())})};
  }
  if (kind.name.find("kld") != std::string_view::npos || kind.name == "min_top1" || kind.name == "max_ppl_ratio") {
    if (c.by_text.size() > 1) {
      const auto worst = std::max_element(
          c.by_text.begin(), c.by_text.end(),
          [](const TextDivergence& a, const TextDivergence& b) { return a.divergence.mean < b.divergence.mean; });
      return {remark("gate.worst_text"_said, {worst->path, fmt::format("{:.4g}", worst->divergence.mean)})};
    }
  }
  return {};
}

}  // namespace

std::span<const GateKind> gate_kinds() { return kKinds; }

std::map<std::string, double> read_gate_spec(const std::string& path) {
  const Json spec = parse_json(read_text_file(path), path, true);
  if (!spec.is_object())
    fail(ExitCode::kBadInput, "{}: expected an object of limits, such as {{\"max_kld\": 0.05}}", path);
  std::vector<std::string> names;
  for (const GateKind& k : kKinds) names.emplace_back(k.name);
  std::map<std::string, double> limits;
  for (const auto& [name, value] : spec.items()) {
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      const std::string nearest = nearest_name(name.substr(0, 64), names.data(), names.size());
      fail(ExitCode::kBadInput, "{}: no gate is called '{}'{}", path, name.substr(0, 64),
           nearest.empty() ? "" : ": did you mean '" + nearest + "'?");
    }
    if (value.is_string())
      limits[name] = static_cast<double>(parse_size_bytes(value.get<std::string>()));
    else if (value.is_number())
      limits[name] = value.get<double>();
    else
      fail(ExitCode::kBadInput, "{}: the limit of '{}' is no number", path, name);
  }
  return limits;
}

void check_limits(const CertifyOptions& o) {
  const auto need = [&](std::initializer_list<const char*> names, bool there, const char* what) {
    for (const char* name : names)
      if (o.limits.contains(name) && !there) fail(ExitCode::kUsage, "certify: the limit {} needs {}", name, what);
  };
  need({"max_kld", "max_kld_p99", "max_text_kld", "min_top1", "max_ppl_ratio"}, !o.texts.empty(), "text: add --text F");
  need({"max_flips", "margin"}, !o.tasks.empty(), "questions: add --tasks F");
  need({"max_unended"}, !o.prompts.empty(), "prompts: add --prompts F");
  need({"min_speedup", "max_memory"}, static_cast<bool>(o.measure_speed),
       "the measurement of speed: leave --no-speed out");
  if (o.texts.empty() && o.tasks.empty() && o.prompts.empty())
    fail(ExitCode::kUsage, "certify: nothing to compare on: give --text F, --tasks F or --prompts F");
}

void judge(CertifyResult& r) {
  r.gates.clear();
  for (const CandidateResult& c : r.candidates) {
    for (const GateKind& kind : kKinds) {
      const auto limit = r.options.limits.find(std::string(kind.name));
      const std::optional<double> wanted =
          limit != r.options.limits.end() ? std::optional(limit->second) : kind.default_limit;
      if (!wanted) continue;
      const Value value = kind.measure(c, r);
      if (!value && limit == r.options.limits.end()) continue;
      GateResult g;
      g.candidate = c.path;
      g.name = kind.name;
      g.limit = *wanted;
      g.value = value ? value->value : NAN;
      g.bound = value ? value->bound : NAN;
      g.ok = value && (kind.is_minimum ? g.bound >= g.limit : g.bound <= g.limit);
      if (value && value->bound != value->value && kind.name != "margin")
        g.p_break = 1 - normal_cdf((g.limit - g.value) / ((g.bound - g.value) / kIntervalErrors));
      if (!g.ok && value) g.reasons = reasons_of(kind, c, r);
      if (!g.ok && !value) {
        g.reasons = {remark("gate.not_measured"_said)};
        if (!c.error.empty()) g.reasons.push_back(c.error);
      }
      r.gates.push_back(std::move(g));
    }
  }
}

}  // namespace tsubu
