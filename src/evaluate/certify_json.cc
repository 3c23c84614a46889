// The JSON of certify: everything that its page and its table show.
#include <algorithm>
#include <cmath>

#include "evaluate/certify.h"
#include "evaluate/scoring.h"

namespace tsubu {
namespace {

// JSON has no NaN: what was not measured is null.
Json number(double v) { return std::isfinite(v) ? Json(v) : Json(); }

Json counts_json(const PairedCounts& c) {
  return {{"n", c.n()},
          {"base", c.base_share()},
          {"candidate", c.candidate_share()},
          {"difference", c.difference()},
          {"lost", c.lost},
          {"gained", c.gained},
          {"flips", c.flips()}};
}

Json full_divergence(const DivergenceResult& d) {
  return {{"divergence", to_json(d)},
          {"top1_agreement", d.top1_agreement},
          {"top1_agreement_ci95", to_json(d.top1_ci95)},
          {"rms_delta_p", d.rms_delta_p},
          {"ln_ppl_ratio", d.ln_ppl_ratio},
          {"ln_ppl_ratio_ci95", to_json(d.ln_ppl_ratio_ci95)}};
}

Json sources_json(const std::vector<TextSource>& sources) {
  Json list = Json::array();
  for (const TextSource& t : sources)
    list.push_back(
        {{"path", t.path}, {"hash", t.hash}, {"bytes", t.n_bytes}, {"tokens", t.n_tokens}, {"chunks", t.n_chunks}});
  return list;
}

Json worst_json(const std::vector<WorstToken>& worst) {
  Json list = Json::array();
  for (const WorstToken& w : worst)
    list.push_back({{"text", w.text},
                    {"position", w.position},
                    {"before", w.before},
                    {"actual", w.actual},
                    {"kld", w.kld},
                    {"base", {{"top", w.base_top}, {"top_p", w.base_top_p}, {"p", w.base_p}}},
                    {"candidate", {{"top", w.top}, {"top_p", w.top_p}, {"p", w.p}}}});
  return list;
}

Json task_result_json(const CertifyResult& r, const TaskResult& t) {
  const Task& task = r.tasks[t.task];
  Json json = {{"name", task.name}, {"counts", counts_raw(task) ? "raw" : "normalized"}};
  json["raw"] = counts_json(t.comparison.raw);
  json["normalized"] = counts_json(t.comparison.normalized);
  json["difference_ci95"] = to_json(t.difference_ci95);
  json["mcnemar_p"] = t.p;
  json["holm_p"] = t.holm_p;
  if (r.options.limits.contains("margin"))
    json["non_inferiority"] = {
        {"margin", r.options.limits.at("margin")}, {"p", t.non_inferior_p}, {"holm_p", t.non_inferior_holm_p}};
  json["log_likelihood_change"] = t.comparison.mean_log_likelihood_change;
  json["groups"] = Json::array();
  for (const auto& [name, counts] : t.comparison.groups) {
    Json group = counts_json(counts);
    group["group"] = name;
    json["groups"].push_back(std::move(group));
  }
  json["most_moved"] = Json::array();
  for (size_t i = 0; i < t.comparison.most_moved.size(); ++i) {
    const TaskItem& item = task.items[t.comparison.most_moved[i]];
    json["most_moved"].push_back({{"item", t.comparison.most_moved[i]},
                                  {"question", item.shown},
                                  {"answer", item.choices[item.gold].continuation},
                                  {"group", item.group},
                                  {"share_change", t.comparison.moved[i]}});
  }
  return json;
}

Json candidate_json(const CertifyResult& r, const CandidateResult& c) {
  Json json = {{"path", c.path},
               {"type", c.type},
               {"hashes", c.hashes},
               {"size_bytes", c.size_bytes},
               {"bits_per_weight", c.bits_per_weight},
               {"types", Json::array()},
               {"made", to_json(std::span<const Remark>(c.made))},
               {"verdict", r.pass(c.path) ? "pass" : "fail"}};
  for (const auto& [type, n] : c.types) json["types"].push_back({{"type", type}, {"weights", n}});
  if (!c.error.empty()) json["error"] = to_json(c.error);
  if (!c.by_text.empty()) {
    json["perplexity"] = to_json(c.perplexity);
    json.update(full_divergence(c.divergence));
    json["histogram"] = {{"log10_first", kHistogramFirst}, {"step", kHistogramStep}, {"counts", c.histogram}};
    json["by_text"] = Json::array();
    for (const TextDivergence& t : c.by_text) {
      Json part = {{"path", t.path}, {"tokens_scored", t.n_tokens_scored}};
      part.update(full_divergence(t.divergence));
      json["by_text"].push_back(std::move(part));
    }
    json["worst_tokens"] = worst_json(c.worst_tokens);
  }
  json["leakage"] = {{"share", c.overlap}, {"text", c.overlap_with}};
  if (c.calibration_kld) {
    json["leakage"]["calibration_kld"] = *c.calibration_kld;
    json["leakage"]["gap"] = c.divergence.mean - *c.calibration_kld;
  }
  json["tasks"] = Json::array();
  for (const TaskResult& t : c.tasks) json["tasks"].push_back(task_result_json(r, t));
  if (c.generation) json["generation"] = to_json(*c.generation, r.prompts, r.base_generations, c.generations);
  if (c.weights) json["weights"] = to_json(*c.weights);
  if (!c.speed.is_null()) json["speed"] = c.speed;
  return json;
}

}  // namespace

Json to_json(const CertifyResult& r) {
  Json json = {{"command", "certify"}, {"version", TSUBU_VERSION}, {"verdict", r.pass() ? "pass" : "fail"}};
  json["gates"] = Json::array();
  for (const GateResult& g : r.gates)
    json["gates"].push_back({{"candidate", g.candidate},
                             {"name", g.name},
                             {"value", number(g.value)},
                             {"bound", number(g.bound)},
                             {"limit", g.limit},
                             {"ok", g.ok},
                             {"p_break", number(g.p_break)},
                             {"detail", joined(g.reasons, "; ")},
                             {"reasons", to_json(std::span<const Remark>(g.reasons))}});
  json["base"] = {{"path", r.options.base},
                  {"type", r.base_type},
                  {"hashes", r.base_hashes},
                  {"size_bytes", r.base_size_bytes},
                  {"bits_per_weight", r.base_bits_per_weight}};
  if (r.n_chunks > 0) json["base"]["perplexity"] = to_json(r.base_perplexity);
  if (!r.base_speed.is_null()) json["base"]["speed"] = r.base_speed;
  json["candidates"] = Json::array();
  for (const CandidateResult& c : r.candidates) json["candidates"].push_back(candidate_json(r, c));
  json["texts"] = sources_json(r.texts);
  json["calibration_texts"] = sources_json(r.calibration_texts);
  json["tasks"] = Json::array();
  for (size_t i = 0; i < r.tasks.size(); ++i) json["tasks"].push_back(task_json(r.tasks[i], r.base_tasks[i]));
  json["power"] = to_json(std::span<const Remark>(power_statement(r.options, r.tasks)));
  if (r.n_chunks > 0) json["noise_floor"] = {{"repeat", r.floor_repeat}, {"runtime", r.floor_runtime}};
  json["stability"] = {{"bootstrap_seeds", r.n_seeds}, {"same_verdict", r.same_under_seeds}};
  const ThreadCheck& t = r.by_threads;
  json["stability"]["threads"] = {{"numbers", {std::min(t.n_threads, t.n_threads_again), std::max(t.n_threads, t.n_threads_again)}},
                                  {"chunks", t.n_chunks},
                                  {"questions", t.n_questions},
                                  {"prompts", t.n_prompts},
                                  {"compared", t.n_compared},
                                  {"differ", t.n_differ},
                                  {"same_verdict", t.same_verdict}};
  json["stability"]["templates"] = Json::array();
  for (const TemplateResult& worded : r.by_template) {
    Json item = {{"template", worded.text}, {"same_verdict", worded.same_verdict}, {"candidates", Json::array()}};
    for (size_t c = 0; c < r.candidates.size(); ++c) {
      Json one = {{"path", r.candidates[c].path}, {"verdict", worded.pass[c] ? "pass" : "fail"}, {"tasks", Json::array()}};
      for (const TaskResult& result : worded.tasks[c]) one["tasks"].push_back(task_result_json(r, result));
      item["candidates"].push_back(std::move(one));
    }
    json["stability"]["templates"].push_back(std::move(item));
  }
  json["seed"] = r.options.eval.seed;
  json["context"] = r.context;
  json["chunks"] = r.n_chunks;
  json["tokens_scored"] = r.n_tokens_scored;
  const std::vector<Remark> protocol = protocol_of(r);
  json["protocol"] = joined(protocol, "; ");
  json["protocol_parts"] = to_json(std::span<const Remark>(protocol));
  json["seconds"] = r.seconds;
  return json;
}

}  // namespace tsubu
