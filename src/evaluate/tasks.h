// Questions with known answers, read from the files that they are published in. A question is a few choices, each a
// context and a continuation whose log-likelihood is scored; the likeliest continuation is the model's answer. A
// question with one choice is a prompt with its answer: right when the answer is what the model would write by itself.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/threads.h"
#include "evaluate/paired.h"
#include "model/model.h"

namespace tsubu {

struct TaskChoice {
  std::string context, continuation;  // the continuation begins with the space that parts them
};

struct TaskItem {
  std::vector<TaskChoice> choices;
  uint32_t gold = 0;
  std::string group;  // the user's own label (category, language, …), or empty
  std::string shown;  // the question, for people
};

struct Task {
  std::string name, path, hash, form;  // form: of the list of forms
  std::vector<TaskItem> items;
};

// A form of task files: what keys an entry has and how it becomes a question.
struct TaskForm {
  std::string_view name, keys, summary;
  bool (*fits)(const Json& entry);
  TaskItem (*read)(const Json& entry);
};
std::span<const TaskForm> task_forms();

// JSON lines (or one JSON list), or a CSV file with a heading line. The first entry decides the form. limit 0: all.
// Throws Error(kBadInput) with the line of an entry that does not fit, Error(kUnsupported) for a form that is not
// known.
Task read_task(const std::string& path, uint32_t limit = 0);

// One model's log-likelihoods of one choice.
struct ChoiceScore {
  double log_likelihood = 0;  // of the continuation, all tokens
  uint32_t n_tokens = 0;
  size_t n_bytes = 0;      // of the continuation's text
  bool is_greedy = false;  // each token was the model's likeliest
  double per_byte() const { return n_bytes == 0 ? log_likelihood : log_likelihood / static_cast<double>(n_bytes); }
};

struct ItemScore {
  std::vector<ChoiceScore> choices;
  bool right_raw = false, right_normalized = false;  // by the sum; by the sum per byte of text
  uint32_t answer = 0;                               // by the sum per byte
};

struct TaskScores {
  std::vector<ItemScore> items;
  uint64_t n_tokens_run = 0, n_tokens_saved = 0;  // saved: prefixes that were there already
  uint32_t n_shortened = 0;                       // items cut from the left to the model's context
  double seconds = 0;
};

// What the choices of a question have in common (its context, a few-shot prefix that the question before had too) is run
// once; their ends are run together. Neither changes a number. The
// scored tokens are those after the longest common beginning of the context's tokens and the whole's. Throws
// Error(kUsage) when a continuation alone is longer than the model's context, Error(kNumeric) on logits that are not
// finite.
TaskScores score_task(const Task& task, const Model& model, bool act_int8, ThreadPool& pool);

// Right answers of base and candidate beside each other, in all and for each group (in order of first appearance).
struct TaskComparison {
  PairedCounts raw, normalized;
  std::vector<std::pair<std::string, PairedCounts>> groups;  // of the measure that counts
  double mean_log_likelihood_change = 0;                     // of the right answer, per item, in nats
  std::vector<uint32_t> most_moved;  // items, by how far the right answer's share among the choices moved
  std::vector<double> moved;         // of those: the candidate's share minus the base's
};
// The measure that counts: normalized for choices of different texts, raw where every choice has one continuation.
bool counts_raw(const Task& task);
const PairedCounts& counted(const Task& task, const TaskComparison& comparison);
TaskComparison compare_task(const Task& task, const TaskScores& base, const TaskScores& candidate);

// n, raw.{accuracy, stderr}, normalized.{…}, groups[].
Json task_json(const Task& task, const TaskScores& scores);

}  // namespace tsubu
