// "Is B still A?": a base and candidates over the same texts, questions and prompts, in one run; measured values
// against limits; a verdict. Every mean has its interval, every test its power, and what differs in the weights is
// named.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/remark.h"
#include "base/threads.h"
#include "evaluate/evaluate.h"
#include "evaluate/generation.h"
#include "evaluate/overlap.h"
#include "evaluate/tasks.h"
#include "evaluate/weight_diff.h"

namespace tsubu {

struct CertifyOptions {
  std::string base;
  std::vector<std::string> candidates;
  std::vector<std::string> texts, tasks, prompts, calibration_texts;  // paths
  EvalOptions eval;                      // context, chunks of each text, activations, seed, resamples
  uint32_t task_limit = 0;               // questions of each task; 0: all
  uint32_t n_generate = 64;              // tokens for each prompt
  double expected_flips = 0.10;          // share of questions that change; for the effect that can be detected
  double alpha = 0.05;                   // of the tests
  std::vector<std::string> templates;    // other wordings of the questions: "{}" is the question's own context
  bool weights = true;                   // compare tensor by tensor
  std::map<std::string, double> limits;  // by the gate's name
  // Speed of a model as `bench` measures it (its JSON), in a process of its own; none: not measured.
  std::function<Json(const std::string& model)> measure_speed;
};

// One text's share of a result.
struct TextDivergence {
  std::string path;
  uint64_t n_tokens_scored = 0;
  DivergenceResult divergence;
};

struct WorstToken {
  std::string text, before, actual, base_top, top;               // before: the text that leads to it
  uint64_t position = 0;                                         // token of the text
  double kld = 0, base_p = 0, p = 0, base_top_p = 0, top_p = 0;  // base_p, p: of the actual token
};

struct TaskResult {
  uint32_t task = 0;  // of CertifyResult::tasks
  TaskComparison comparison;
  double p = 1, holm_p = 1;                            // exact McNemar; adjusted over all candidates and tasks
  Interval difference_ci95;                            // of the share of right answers
  double non_inferior_p = 1, non_inferior_holm_p = 1;  // against the margin; 1 without one
};

struct CandidateResult {
  std::string path, type;  // type: that of most weights
  std::vector<std::string> hashes;
  uint64_t size_bytes = 0;  // of the weights
  double bits_per_weight = 0;
  std::map<std::string, uint64_t> types;  // weights stored in each
  std::vector<Remark> made;               // how, as the file says; empty: it does not
  Remark error;  // why it could not be measured: logits that are not finite
  PerplexityResult perplexity;
  DivergenceResult divergence;
  std::vector<TextDivergence> by_text;
  std::vector<uint64_t> histogram;  // of log10 of the divergence (kHistogramFirst, kHistogramStep)
  std::vector<WorstToken> worst_tokens;
  std::vector<TaskScores> task_scores;  // by task, as far as it came
  std::vector<TaskResult> tasks;
  std::optional<GenerationComparison> generation;
  std::vector<Generation> generations;
  std::optional<WeightDifferences> weights;
  std::optional<double> calibration_kld;  // on the calibration text: the gap tells what was learned by heart
  double overlap = 0;                     // largest share of a certification text that stands in calibration text
  std::string overlap_with;
  Json speed;  // null: not measured
};

inline constexpr double kHistogramFirst = -8, kHistogramStep = 0.25;  // log10 of nats
inline constexpr size_t kHistogramBins = 40;                          // the first and the last hold what lies beyond

// A limit that a candidate is held to. The bound, not the value, is compared: the far end of the value's 95 % interval,
// where there is one, so that a pass is shown and not merely not refuted.
struct Measured {
  double value = 0, bound = 0;
};
struct GateKind {
  std::string_view name, option, type_name, summary;  // name: key of --spec and of the JSON
  bool is_minimum;
  std::optional<double> default_limit;  // has one: always on
  // nothing when the run did not measure it
  std::optional<Measured> (*measure)(const CandidateResult& candidate, const struct CertifyResult& all);
};
std::span<const GateKind> gate_kinds();
// {"max_kld": 0.05, …}. Throws Error(kBadInput) on unknown names, with the nearest.
std::map<std::string, double> read_gate_spec(const std::string& path);

struct GateResult {
  std::string candidate, name;
  double value = 0, bound = 0, limit = 0;
  bool ok = false;
  double p_break = NAN;  // that the true value is beyond the limit, from the interval (normal); NaN without one
  std::vector<Remark> reasons;  // where it failed
};

struct TextSource {
  std::string path, hash;
  uint64_t n_bytes = 0, n_tokens = 0;
  uint32_t n_chunks = 0;
};

// The questions in another wording: what the candidates' answers and verdicts are then.
struct TemplateResult {
  std::string text;
  std::vector<TaskScores> base_tasks;
  std::vector<std::vector<TaskResult>> tasks;  // of each candidate
  std::vector<bool> pass;                      // each candidate
  bool same_verdict = true;                    // as with the questions as they are, of every candidate
};

// A share of the work done again by another number of threads. Compared to the bit: scores of tokens of the texts, of
// choices of the questions, and tokens of greedy text, of base and candidates.
struct ThreadCheck {
  int n_threads = 0, n_threads_again = 0;
  uint32_t n_chunks = 0, n_questions = 0, n_prompts = 0;
  uint64_t n_compared = 0, n_differ = 0;
  bool same_verdict = true;  // of every candidate, with the numbers of the second run in their places
};

struct CertifyResult {
  CertifyOptions options;
  std::vector<std::string> base_hashes;
  uint64_t base_size_bytes = 0;
  double base_bits_per_weight = 0;
  std::string base_type;
  PerplexityResult base_perplexity;
  std::vector<TextSource> texts, calibration_texts;
  std::vector<Task> tasks;
  std::vector<TaskScores> base_tasks;
  std::vector<Prompt> prompts;
  std::vector<Generation> base_generations;
  Json base_speed;
  uint32_t context = 0, n_chunks = 0;
  uint64_t n_tokens_scored = 0;
  // Mean divergence of the base from itself: computed again; with activations and cache rounded as llama.cpp's CPU path
  // does.
  double floor_repeat = 0, floor_runtime = 0;
  std::vector<CandidateResult> candidates;
  std::vector<GateResult> gates;
  uint32_t n_seeds = 0;          // bootstrap seeds under which the gates were looked at
  bool same_under_seeds = true;  // the verdict of every candidate
  std::vector<TemplateResult> by_template;
  ThreadCheck by_threads;
  double seconds = 0;
  bool pass() const;
  bool pass(const std::string& candidate) const;
};

// What a run of these sizes can find: said before the run.
std::vector<Remark> power_statement(const CertifyOptions& options, std::span<const Task> tasks);

// Throws Error(kUsage) when a limit needs what the options do not measure, Error(kBadInput) when vocabularies differ.
CertifyResult certify(const CertifyOptions& options, ThreadPool& pool);
Json to_json(const CertifyResult& result);
std::vector<Remark> protocol_of(const CertifyResult& result);  // how it was measured

}  // namespace tsubu
