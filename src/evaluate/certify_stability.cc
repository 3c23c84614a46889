#include "evaluate/certify_stability.h"

#include <algorithm>
#include <bit>

#include "evaluate/certify_gates.h"

namespace tsubu {
namespace {

constexpr uint32_t kSeeds = 5;
// Of the work that is done again: one part of so many, within bounds.
constexpr size_t kPart = 16;
constexpr size_t kMostChunks = 4, kMostQuestions = 16, kMostPrompts = 4;

// The candidates' verdicts in two results are the same.
bool same_verdicts(const CertifyResult& a, const CertifyResult& b) {
  return std::all_of(a.candidates.begin(), a.candidates.end(),
                     [&](const CandidateResult& c) { return a.pass(c.path) == b.pass(c.path); });
}

// A template's text around the context of every choice. The continuation begins with the space that parts them.
Task worded(const Task& task, const std::string& text) {
  const size_t at = text.find("{}");
  Task other = task;
  for (TaskItem& item : other.items)
    for (TaskChoice& choice : item.choices) choice.context = text.substr(0, at) + choice.context + text.substr(at + 2);
  return other;
}

bool same_bits(float a, float b) { return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b); }
bool same_bits(const TokenScore& a, const TokenScore& b) {
  return same_bits(a.nll, b.nll) && same_bits(a.base_nll, b.base_nll) && same_bits(a.kld, b.kld) &&
         same_bits(a.top_p, b.top_p) && same_bits(a.base_top_p, b.base_top_p) && a.top == b.top &&
         a.base_top == b.base_top;
}
bool same_bits(const ChoiceScore& a, const ChoiceScore& b) {
  return std::bit_cast<uint64_t>(a.log_likelihood) == std::bit_cast<uint64_t>(b.log_likelihood) &&
         a.n_tokens == b.n_tokens && a.is_greedy == b.is_greedy;
}

// Puts the numbers of a rerun in the places of the first run's, and counts those that are others.
struct Replacer {
  ThreadCheck& check;

  template <typename T>
  void replace(std::vector<T>& first, const std::vector<T>& again) {
    for (size_t i = 0; i < again.size(); ++i) {
      count(i < first.size() && same_bits(first[i], again[i]));
      if (i < first.size()) first[i] = again[i];
    }
  }
  void replace(TaskScores& first, const TaskScores& again) {
    for (size_t i = 0; i < again.items.size(); ++i) {
      replace(first.items[i].choices, again.items[i].choices);
      first.items[i] = again.items[i];
    }
  }
  void replace(std::vector<TaskScores>& first, const std::vector<TaskScores>& again) {
    for (size_t t = 0; t < again.size(); ++t) replace(first[t], again[t]);
  }
  void replace(std::vector<Generation>& first, const std::vector<Generation>& again) {
    for (size_t i = 0; i < again.size(); ++i) {
      for (size_t k = 0; k < std::max(first[i].tokens.size(), again[i].tokens.size()); ++k)
        count(k < std::min(first[i].tokens.size(), again[i].tokens.size()) &&
              first[i].tokens[k] == again[i].tokens[k]);
      first[i] = again[i];
    }
  }
  void count(bool same) {
    ++check.n_compared;
    check.n_differ += same ? 0 : 1;
  }
};

size_t part_of(size_t n, size_t most) { return std::min(n, std::clamp<size_t>(n / kPart, 1, most)); }

}  // namespace

void run_templates(const Models& models, const Model& base, CertifyResult& r, ThreadPool& pool) {
  for (const std::string& text : r.options.templates) {
    CertifyResult other = r;
    for (Task& task : other.tasks) task = worded(task, text);
    score_tasks(models, base, other, pool);
    compare_tasks(other);
    TemplateResult result;
    result.text = text;
    result.base_tasks = std::move(other.base_tasks);
    for (CandidateResult& c : other.candidates) result.tasks.push_back(std::move(c.tasks));
    r.by_template.push_back(std::move(result));
  }
}

size_t n_chunks_again(size_t n) { return part_of(n, kMostChunks); }
size_t n_questions_again(size_t n) { return part_of(n, kMostQuestions); }
size_t n_prompts_again(size_t n) { return part_of(n, kMostPrompts); }

Rerun run_again(const Models& models, const Model& base, const std::optional<TextRun>& texts, const CertifyResult& r,
                const ThreadPool& pool) {
  Rerun again;
  again.n_threads = pool.size();
  again.n_threads_again = pool.size() == 1 ? 2 : (pool.size() + 1) / 2;
  ThreadPool other(again.n_threads_again);
  const bool int8 = r.options.eval.act_int8, bf16 = r.options.eval.bf16_products;
  if (texts) {
    Runner base_runner(base, texts->protocol, int8, bf16, other);
    std::vector<Runner> runners;
    for (const auto& m : models) runners.emplace_back(*m, texts->protocol, int8, bf16, other);
    again.texts = score_chunks(texts->chunks, n_chunks_again(texts->chunks.text_of.size()), texts->protocol, base_runner,
                               runners, "again with other threads", other);
  }
  CertifyResult part;  // the first questions
  part.options = r.options;
  part.tasks = r.tasks;
  for (Task& t : part.tasks) t.items.resize(n_questions_again(t.items.size()));
  for (const CandidateResult& c : r.candidates) part.candidates.emplace_back().error = c.error;
  score_tasks(models, base, part, other);
  again.base_tasks = std::move(part.base_tasks);
  for (CandidateResult& c : part.candidates) again.tasks.push_back(std::move(c.task_scores));

  const std::span<const Prompt> prompts = std::span(r.prompts).first(n_prompts_again(r.prompts.size()));
  again.generations.resize(models.size());
  if (prompts.empty()) return again;
  again.base_generations = generate(prompts, base, r.options.n_generate, int8, other);
  for (size_t c = 0; c < models.size(); ++c)
    if (r.candidates[c].error.empty())
      again.generations[c] = generate(prompts, *models[c], r.options.n_generate, int8, other);
  return again;
}

void judge_seeds(const std::optional<TextRun>& texts, CertifyResult& r) {
  r.n_seeds = kSeeds;
  for (uint32_t s = 1; s < kSeeds && r.same_under_seeds && texts; ++s) {
    CertifyResult other = r;
    for (size_t c = 0; c < r.candidates.size(); ++c)
      if (r.candidates[c].error.empty()) set_divergence(*texts, c, r.options.eval.seed + s, other);
    judge(other);
    r.same_under_seeds = same_verdicts(r, other);
  }
}

void judge_templates(CertifyResult& r) {
  for (TemplateResult& t : r.by_template) {
    CertifyResult other = r;
    for (size_t c = 0; c < r.candidates.size(); ++c) other.candidates[c].tasks = t.tasks[c];
    judge(other);
    for (const CandidateResult& c : r.candidates) t.pass.push_back(other.pass(c.path));
    t.same_verdict = same_verdicts(r, other);
  }
}

void judge_threads(const Rerun& again, const std::optional<TextRun>& texts, CertifyResult& r) {
  r.by_threads = {};
  r.by_threads.n_threads = again.n_threads;
  r.by_threads.n_threads_again = again.n_threads_again;
  if (texts) r.by_threads.n_chunks = static_cast<uint32_t>(n_chunks_again(texts->chunks.text_of.size()));
  for (const TaskScores& t : again.base_tasks) r.by_threads.n_questions += static_cast<uint32_t>(t.items.size());
  r.by_threads.n_prompts = static_cast<uint32_t>(again.base_generations.size());
  Replacer to{r.by_threads};
  CertifyResult other = r;
  std::optional<TextRun> run = texts;
  to.replace(other.base_tasks, again.base_tasks);
  to.replace(other.base_generations, again.base_generations);
  for (size_t c = 0; c < r.candidates.size(); ++c) {
    if (!r.candidates[c].error.empty()) continue;
    CandidateResult& candidate = other.candidates[c];
    if (run) {
      candidate.error = again.texts.errors[c];
      to.replace(run->all.scores[c], again.texts.scores[c]);
      std::copy(again.texts.blocks[c].begin(), again.texts.blocks[c].end(), run->all.blocks[c].begin());
      set_divergence(*run, c, r.options.eval.seed, other);
    }
    to.replace(candidate.task_scores, again.tasks[c]);
    to.replace(candidate.generations, again.generations[c]);
    if (candidate.generation) candidate.generation = compare_generations(other.base_generations, candidate.generations);
  }
  compare_tasks(other);
  judge(other);
  r.by_threads.same_verdict = same_verdicts(r, other);
}

}  // namespace tsubu
