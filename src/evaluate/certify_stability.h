// Is the verdict of certify the same with other seeds of the bootstrap, with the questions in other words, and computed by
// another number of threads?
#pragma once

#include <optional>

#include "evaluate/certify_runs.h"

namespace tsubu {

// The part that runs models: the questions of each template (result.by_template).
void run_templates(const Models& models, const Model& base, CertifyResult& result, ThreadPool& pool);

// A share of a run's work, done by another number of threads.
struct Rerun {
  int n_threads = 0, n_threads_again = 0;
  AllScores texts;                            // of the first chunks
  std::vector<TaskScores> base_tasks;         // by task, of its first questions
  std::vector<std::vector<TaskScores>> tasks;  // by candidate
  std::vector<Generation> base_generations;   // of the first prompts
  std::vector<std::vector<Generation>> generations;
};
// Chunks, questions of each task and prompts that are done again, of so many.
size_t n_chunks_again(size_t n);
size_t n_questions_again(size_t n);
size_t n_prompts_again(size_t n);
Rerun run_again(const Models& models, const Model& base, const std::optional<TextRun>& texts,
                const CertifyResult& result, const ThreadPool& pool);

// The part that judges, once result.gates are there: n_seeds, same_under_seeds; by_template[].pass; by_threads.
void judge_seeds(const std::optional<TextRun>& texts, CertifyResult& result);
void judge_templates(CertifyResult& result);
// Compares number with number, and the verdict with that of the numbers of the rerun in the places of their likes.
void judge_threads(const Rerun& again, const std::optional<TextRun>& texts, CertifyResult& result);

}  // namespace tsubu
