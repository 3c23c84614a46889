#include "evaluate/tasks.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/progress.h"
#include "engine/engine.h"
#include "evaluate/remarks.h"
#include "evaluate/scoring.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr size_t kMostTogether = 8;  // choices of a question that are run together
constexpr size_t kDefaultContext = 4096;  // when a model does not say how long its context is
constexpr size_t kMostMoved = 10;

bool has(const Json& e, std::initializer_list<const char*> keys) {
  return e.is_object() && std::all_of(keys.begin(), keys.end(), [&](const char* k) { return e.contains(k); });
}

std::string text_of(const Json& e, const char* key) { return e.at(key).get<std::string>(); }

// "2", 2, "B", "b" → 2, 2, 1, 1; digits count from `first`.
uint32_t index_of(const Json& v, uint32_t first = 0) {
  if (v.is_number_integer()) return static_cast<uint32_t>(v.get<int64_t>() - first);
  const std::string s = v.get<std::string>();
  if (s.size() == 1 && s[0] >= 'A' && s[0] <= 'H') return static_cast<uint32_t>(s[0] - 'A');
  if (s.size() == 1 && s[0] >= 'a' && s[0] <= 'h') return static_cast<uint32_t>(s[0] - 'a');
  return static_cast<uint32_t>(std::stoul(s)) - first;
}

std::string trimmed(const std::string& s) {
  const size_t begin = s.find_first_not_of(" \t\r\n"), end = s.find_last_not_of(" \t\r\n");
  return begin == std::string::npos ? "" : s.substr(begin, end - begin + 1);
}

// One context, several continuations.
TaskItem with_choices(const std::string& context, const std::vector<std::string>& continuations, uint32_t gold,
                      const std::string& gap = " ") {
  TaskItem item;
  item.gold = gold;
  item.shown = context;
  for (const std::string& c : continuations) item.choices.push_back({context, gap + trimmed(c)});
  return item;
}

std::string group_of(const Json& e) {
  for (const char* key : {"group", "category", "Category", "subject", "language", "activity_label"})
    if (e.contains(key) && e[key].is_string()) return text_of(e, key);
  return e.contains("label") && e["label"].is_string() && e.contains("prompt") ? text_of(e, "label") : "";
}

TaskItem read_query(const Json& e) {
  const std::string query = text_of(e, "query");
  return with_choices(query.starts_with("Question:") ? query + "\nAnswer:" : query,
                      e.at("choices").get<std::vector<std::string>>(), index_of(e.at("gold")));
}

TaskItem read_context_options(const Json& e) {
  TaskItem item;
  for (const Json& c : e.at("context_options"))
    item.choices.push_back({c.get<std::string>(), " " + trimmed(text_of(e, "continuation"))});
  item.gold = index_of(e.at("gold"));
  item.shown = item.choices.front().context + " … " + text_of(e, "continuation");
  return item;
}

TaskItem read_hellaswag(const Json& e) {
  return with_choices(text_of(e, "ctx"), e.at("endings").get<std::vector<std::string>>(), index_of(e.at("label")));
}

TaskItem read_piqa(const Json& e) {
  return with_choices("Question: " + text_of(e, "goal") + "\nAnswer:", {text_of(e, "sol1"), text_of(e, "sol2")},
                      index_of(e.at("label")));
}

TaskItem read_winogrande(const Json& e) {
  const std::string sentence = text_of(e, "sentence");
  const size_t blank = sentence.find('_');
  if (blank == std::string::npos) fail(ExitCode::kBadInput, "'sentence' has no blank '_' to fill");
  TaskItem item;
  for (const char* option : {"option1", "option2"})
    item.choices.push_back({sentence.substr(0, blank) + text_of(e, option), " " + trimmed(sentence.substr(blank + 1))});
  item.gold = index_of(e.at("answer"), 1);
  item.shown = sentence;
  return item;
}

TaskItem read_arc(const Json& e) {
  const Json& q = e.at("question");
  std::vector<std::string> texts;
  uint32_t gold = UINT32_MAX;
  for (const Json& c : q.at("choices")) {
    if (c.at("label") == e.at("answerKey")) gold = static_cast<uint32_t>(texts.size());
    texts.push_back(text_of(c, "text"));
  }
  return with_choices("Question: " + text_of(q, "stem") + "\nAnswer:", texts, gold);
}

TaskItem read_numbered(const Json& e) {
  std::vector<std::string> texts;
  for (int i = 0; e.contains("choice" + std::to_string(i)); ++i)
    texts.push_back(text_of(e, ("choice" + std::to_string(i)).c_str()));
  return with_choices("質問：" + text_of(e, "question") + "\n回答：", texts, index_of(e.at("label")), "");
}

TaskItem read_mmlu(const Json& e) {
  return with_choices("Question: " + text_of(e, "question") + "\nAnswer:",
                      e.at("choices").get<std::vector<std::string>>(), index_of(e.at("answer")));
}

TaskItem read_truthfulqa(const Json& e) {
  std::vector<std::string> texts = {text_of(e, "Best Answer")};
  const std::string wrong = text_of(e, "Incorrect Answers");
  for (size_t at = 0; at <= wrong.size();) {
    const size_t end = std::min(wrong.find(';', at), wrong.size());
    const std::string one = trimmed(wrong.substr(at, end - at));
    if (!one.empty()) texts.push_back(one);
    at = end + 1;
  }
  return with_choices("Q: " + text_of(e, "Question") + "\nA:", texts, 0);
}

TaskItem read_pair(const Json& e) {
  const std::string answer = text_of(e, "answer");
  const bool parted = answer.starts_with(" ") || answer.starts_with("\n");
  TaskItem item;
  item.choices.push_back({text_of(e, "prompt"), parted ? answer : " " + answer});
  item.shown = text_of(e, "prompt");
  return item;
}

constexpr TaskForm kForms[] = {
    {"query", "query, choices[], gold", "a question and its answers (HellaSwag, ARC, PIQA as prepared for harnesses)",
     [](const Json& e) {
       return has(e, {"query", "choices", "gold"});
     },
     read_query},
    {"contexts", "context_options[], continuation, gold",
     "one continuation of several contexts (Winogrande, partial evaluation)",
     [](const Json& e) {
       return has(e, {"context_options", "continuation", "gold"});
     },
     read_context_options},
    {"hellaswag", "ctx, endings[], label", "HellaSwag as published",
     [](const Json& e) {
       return has(e, {"ctx", "endings", "label"});
     },
     read_hellaswag},
    {"piqa", "goal, sol1, sol2, label", "PIQA as published",
     [](const Json& e) {
       return has(e, {"goal", "sol1", "sol2", "label"});
     },
     read_piqa},
    {"winogrande", "sentence, option1, option2, answer", "Winogrande as published",
     [](const Json& e) {
       return has(e, {"sentence", "option1", "option2", "answer"});
     },
     read_winogrande},
    {"arc", "question.{stem, choices[].{text, label}}, answerKey", "ARC as published",
     [](const Json& e) {
       return has(e, {"question", "answerKey"}) && e["question"].is_object();
     },
     read_arc},
    {"numbered", "question, choice0, choice1, …, label", "JCommonsenseQA as published (Japanese)",
     [](const Json& e) {
       return has(e, {"question", "choice0", "choice1", "label"});
     },
     read_numbered},
    {"mmlu", "question, choices[], answer, subject", "MMLU as JSON lines",
     [](const Json& e) {
       return has(e, {"question", "choices", "answer"}) && e["choices"].is_array();
     },
     read_mmlu},
    {"truthfulqa", "Question, Best Answer, Incorrect Answers",
     "TruthfulQA's CSV file: the best answer among the wrong ones",
     [](const Json& e) {
       return has(e, {"Question", "Best Answer", "Incorrect Answers"});
     },
     read_truthfulqa},
    {"pairs", "prompt, answer", "your own prompts: right when the model would write the answer by itself",
     [](const Json& e) {
       return has(e, {"prompt", "answer"});
     },
     read_pair},
};

// RFC 4180: fields in quotes may hold commas, line ends and doubled quotes.
std::vector<std::vector<std::string>> read_csv(const std::string& text) {
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> row;
  std::string field;
  bool quoted = false;
  const auto end_row = [&] {
    row.push_back(std::move(field));
    field.clear();
    if (row.size() > 1 || !row[0].empty()) rows.push_back(std::move(row));
    row.clear();
  };
  for (size_t i = text.starts_with("\xEF\xBB\xBF") ? 3 : 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c != '"') {
        field += c;
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        field += c;
        ++i;
      } else {
        quoted = false;
      }
    } else if (c == '"') {
      quoted = true;
    } else if (c == ',') {
      row.push_back(std::move(field));
      field.clear();
    } else if (c == '\n') {
      end_row();
    } else if (c != '\r') {
      field += c;
    }
  }
  if (!field.empty() || !row.empty()) end_row();
  return rows;
}

// Entries with where they stand, for messages.
std::vector<std::pair<std::string, Json>> read_entries(const std::string& path, const std::string& text) {
  std::vector<std::pair<std::string, Json>> entries;
  if (std::filesystem::path(path).extension() == ".csv") {
    const auto rows = read_csv(text);
    for (size_t r = 1; r < rows.size(); ++r) {
      Json e = Json::object();
      for (size_t c = 0; c < std::min(rows[0].size(), rows[r].size()); ++c) e[rows[0][c]] = rows[r][c];
      entries.emplace_back(fmt::format("{}: row {}", path, r + 1), std::move(e));
    }
    return entries;
  }
  if (text.find_first_not_of(" \t\r\n") != std::string::npos && trimmed(text.substr(0, 64)).starts_with("[")) {
    const Json list = parse_json(text, path);
    for (size_t i = 0; i < list.size(); ++i) entries.emplace_back(fmt::format("{}: entry {}", path, i), list[i]);
    return entries;
  }
  for (size_t at = 0, line = 1; at < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string one = trimmed(text.substr(at, end - at));
    const std::string where = fmt::format("{}:{}", path, line);
    if (!one.empty()) entries.emplace_back(where, parse_json(one, where));
    at = end + 1;
  }
  return entries;
}

size_t common_length(std::span<const TokenId> a, std::span<const TokenId> b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

// The choices of a question side by side: what they have in common is run once, and not again when the question before
// had it too; their ends are run together, so that the weights are read once for all.
class Scorer {
 public:
  Scorer(const Model& model, bool act_int8, ThreadPool& pool) : tokenizer_(model.make_tokenizer()) {
    EngineOptions options;
    options.act_int8 = options.kv_f16 = act_int8;
    engine_ = Engine::make(model, pool, options);
    context_ = model.hparams().n_ctx > 0 ? model.hparams().n_ctx : kDefaultContext;
    sessions_.push_back(engine_->new_session(context_));
  }

  ItemScore score(const TaskItem& item, TaskScores& totals) {
    std::vector<std::vector<TokenId>> wholes;
    std::vector<size_t> firsts;  // scored tokens of each begin here
    size_t longest = 0;
    for (const TaskChoice& c : item.choices) {
      const std::vector<TokenId> context = tokenizer_->encode(c.context);
      wholes.push_back(tokenizer_->encode(c.context + c.continuation));
      firsts.push_back(std::max<size_t>(1, std::min(common_length(context, wholes.back()), wholes.back().size() - 1)));
      longest = std::max(longest, wholes.back().size());
    }
    // Too long: the same number of tokens goes from the left of every choice, after the first (BOS).
    if (longest > context_) {
      const size_t cut = longest - context_;
      ++totals.n_shortened;
      for (size_t i = 0; i < wholes.size(); ++i) {
        if (firsts[i] < cut + 2)
          fail(ExitCode::kUsage, "a continuation of {} tokens does not fit the model's context of {}",
               wholes[i].size() - firsts[i], context_);
        wholes[i].erase(wholes[i].begin() + 1, wholes[i].begin() + 1 + static_cast<ptrdiff_t>(cut));
        firsts[i] -= cut;
      }
    }
    ItemScore score;
    size_t shared = SIZE_MAX;  // the token before the first scored one must run, for its logits
    for (size_t i = 0; i < wholes.size(); ++i) {
      ChoiceScore& c = score.choices.emplace_back();
      c.n_tokens = static_cast<uint32_t>(wholes[i].size() - firsts[i]);
      c.n_bytes = trimmed(item.choices[i].continuation).size();
      shared = std::min({shared, common_length(wholes[0], wholes[i]), firsts[i] - 1});
    }
    run_shared(wholes[0], shared, totals);
    for (size_t i = 0; i < wholes.size();) i = run_together(wholes, firsts, i, shared, score, totals);
    judge(item, score);
    return score;
  }

 private:
  // The first session becomes tokens [0, shared).
  void run_shared(const std::vector<TokenId>& tokens, size_t shared, TaskScores& totals) {
    const size_t kept = std::min({common_length(held_, tokens), shared, sessions_[0]->n_past()});
    sessions_[0]->truncate(kept);
    engine_->forward(*sessions_[0], std::span(tokens).subspan(kept, shared - kept), 0, {});
    held_.assign(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(shared));
    totals.n_tokens_run += shared - kept;
    totals.n_tokens_saved += kept;
  }

  // As many choices from `begin` on as go together; returns the first that does not.
  size_t run_together(const std::vector<std::vector<TokenId>>& wholes, const std::vector<size_t>& firsts, size_t begin,
                      size_t shared, ItemScore& score, TaskScores& totals) {
    std::vector<BatchPart> parts;
    std::vector<size_t> owners;
    size_t n_tokens = 0, n_logits = 0, end = begin;
    for (; end < wholes.size() && parts.size() < kMostTogether; ++end) {
      const std::vector<TokenId>& tokens = wholes[end];
      if (tokens.size() < 2) continue;
      const size_t n = tokens.size() - 1 - shared;
      if (!parts.empty() && n_tokens + n > engine_->max_batch_tokens()) break;
      if (parts.size() == sessions_.size()) sessions_.push_back(engine_->new_session(context_));
      Session& session = *sessions_[parts.size()];
      if (parts.empty())
        session.truncate(shared);
      else
        session.copy_prefix(*sessions_[0], shared);
      if (end > 0) totals.n_tokens_saved += shared;
      parts.push_back({&session, std::span(tokens).subspan(shared, n), score.choices[end].n_tokens});
      owners.push_back(end);
      n_tokens += n;
      n_logits += parts.back().n_logits;
    }
    if (parts.empty()) return end;
    const size_t n_vocab = engine_->n_vocab();
    logits_.resize(n_logits * n_vocab);
    if (parts.size() == 1)  // may be longer than a batch
      engine_->forward(*parts[0].session, parts[0].tokens, parts[0].n_logits, logits_);
    else
      engine_->forward_batch(parts, logits_);
    totals.n_tokens_run += n_tokens;
    held_ = wholes[owners[0]];
    held_.pop_back();
    const float* row = logits_.data();
    for (const size_t i : owners) {
      read_scores(std::span(wholes[i]).subspan(firsts[i]), row, score.choices[i]);
      row += score.choices[i].n_tokens * n_vocab;
    }
    return end;
  }

  // rows: logits before each of the tokens.
  void read_scores(std::span<const TokenId> tokens, const float* row, ChoiceScore& s) const {
    const size_t n_vocab = engine_->n_vocab();
    s.is_greedy = true;
    for (const TokenId token : tokens) {
      const double sum = kernels().log_sum_exp(row, n_vocab);
      if (!std::isfinite(sum)) throw Error(ExitCode::kNumeric, remark("runs.questions"_said).text);
      const auto id = static_cast<size_t>(token);
      s.log_likelihood += static_cast<double>(row[id]) - sum;
      s.is_greedy = s.is_greedy && std::max_element(row, row + n_vocab) == row + id;
      row += n_vocab;
    }
  }

  static void judge(const TaskItem& item, ItemScore& score) {
    if (score.choices.size() == 1) {
      score.right_raw = score.right_normalized = score.choices[0].is_greedy;
      return;
    }
    const auto best = [&](auto value) {
      return static_cast<uint32_t>(std::max_element(score.choices.begin(), score.choices.end(),
                                                    [&](const auto& a, const auto& b) { return value(a) < value(b); }) -
                                   score.choices.begin());
    };
    score.answer = best([](const ChoiceScore& c) { return c.per_byte(); });
    score.right_normalized = score.answer == item.gold;
    score.right_raw = best([](const ChoiceScore& c) { return c.log_likelihood; }) == item.gold;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Engine> engine_;
  std::vector<std::unique_ptr<Session>> sessions_;  // the first holds held_
  size_t context_ = 0;
  std::vector<TokenId> held_;
  std::vector<float> logits_;
};

// Share of the right answer among the choices, by the measure that counts; of a prompt: the answer's probability per
// token.
double share_of_right(const TaskItem& item, const ItemScore& score, bool raw) {
  if (score.choices.size() == 1)
    return std::exp(score.choices[0].log_likelihood / std::max(1u, score.choices[0].n_tokens));
  double top = -INFINITY, sum = 0;
  const auto value = [&](const ChoiceScore& c) { return raw ? c.log_likelihood : c.per_byte(); };
  for (const ChoiceScore& c : score.choices) top = std::max(top, value(c));
  for (const ChoiceScore& c : score.choices) sum += std::exp(value(c) - top);
  return std::exp(value(score.choices[item.gold]) - top) / sum;
}

}  // namespace

std::span<const TaskForm> task_forms() { return kForms; }

Task read_task(const std::string& path, uint32_t limit) {
  const std::string text = read_text_file(path);
  Task task;
  task.path = path;
  task.name = std::filesystem::path(path).stem().string();
  task.hash = hash_bytes(std::as_bytes(std::span(text)));
  const TaskForm* form = nullptr;
  for (const auto& [where, entry] : read_entries(path, text)) {
    if (limit > 0 && task.items.size() == limit) break;
    if (!form) {
      const auto found =
          std::find_if(std::begin(kForms), std::end(kForms), [&e = entry](const TaskForm& f) { return f.fits(e); });
      if (found == std::end(kForms)) {
        std::string forms;
        for (const TaskForm& f : kForms) forms += fmt::format("\n  {:<11} {}", f.name, f.keys);
        fail(ExitCode::kUnsupported, "{}: no known form of questions; an entry has the keys of one of{}", where, forms);
      }
      form = found;
    }
    if (!form->fits(entry)) fail(ExitCode::kBadInput, "{}: expected the keys {}", where, form->keys);
    try {
      TaskItem item = form->read(entry);
      item.group = group_of(entry);
      if (item.choices.empty() || item.gold >= item.choices.size())
        fail(ExitCode::kBadInput, "the right answer is number {} of {}", item.gold, item.choices.size());
      for (const TaskChoice& c : item.choices)
        if (trimmed(c.continuation).empty()) fail(ExitCode::kBadInput, "an answer is empty");
      task.items.push_back(std::move(item));
    } catch (const std::exception& e) {
      fail(ExitCode::kBadInput, "{}: {} (form {}: {})", where, e.what(), form->name, form->keys);
    }
  }
  if (task.items.empty()) fail(ExitCode::kBadInput, "{}: no questions in it", path);
  task.form = form->name;
  return task;
}

TaskScores score_task(const Task& task, const Model& model, bool act_int8, ThreadPool& pool) {
  Scorer scorer(model, act_int8, pool);
  TaskScores scores;
  Progress progress(task.name, task.items.size(), "questions");
  for (const TaskItem& item : task.items) {
    throw_if_interrupted();
    scores.items.push_back(scorer.score(item, scores));
    progress.advance(1);
  }
  progress.finish();
  scores.seconds = progress.seconds();
  return scores;
}

bool counts_raw(const Task& task) {
  return task.items.empty() || task.form == "contexts" || task.form == "winogrande" ||
         task.items.front().choices.size() == 1;
}

const PairedCounts& counted(const Task& task, const TaskComparison& comparison) {
  return counts_raw(task) ? comparison.raw : comparison.normalized;
}

TaskComparison compare_task(const Task& task, const TaskScores& base, const TaskScores& candidate) {
  TaskComparison c;
  const bool raw = counts_raw(task);
  std::vector<std::pair<double, uint32_t>> moves;
  for (uint32_t i = 0; i < task.items.size(); ++i) {
    const TaskItem& item = task.items[i];
    const ItemScore &b = base.items[i], &q = candidate.items[i];
    c.raw.add(b.right_raw, q.right_raw);
    c.normalized.add(b.right_normalized, q.right_normalized);
    if (!item.group.empty()) {
      auto group = std::find_if(c.groups.begin(), c.groups.end(), [&](const auto& g) { return g.first == item.group; });
      if (group == c.groups.end()) group = c.groups.insert(group, {item.group, {}});
      group->second.add(raw ? b.right_raw : b.right_normalized, raw ? q.right_raw : q.right_normalized);
    }
    c.mean_log_likelihood_change += q.choices[item.gold].log_likelihood - b.choices[item.gold].log_likelihood;
    moves.emplace_back(share_of_right(item, q, raw) - share_of_right(item, b, raw), i);
  }
  c.mean_log_likelihood_change /= static_cast<double>(task.items.size());
  std::stable_sort(moves.begin(), moves.end(),
                   [](const auto& a, const auto& b) { return std::abs(a.first) > std::abs(b.first); });
  for (size_t i = 0; i < std::min(moves.size(), kMostMoved); ++i) {
    if (moves[i].first == 0) break;
    c.most_moved.push_back(moves[i].second);
    c.moved.push_back(moves[i].first);
  }
  return c;
}

Json task_json(const Task& task, const TaskScores& scores) {
  const auto n = static_cast<double>(task.items.size());
  const auto measure = [&](bool ItemScore::*right) {
    const auto k = static_cast<double>(
        std::count_if(scores.items.begin(), scores.items.end(), [&](const ItemScore& s) { return s.*right; }));
    return Json{{"accuracy", k / n}, {"stderr", std::sqrt(k / n * (1 - k / n) / n)}};
  };
  Json json = {{"name", task.name}, {"path", task.path},      {"hash", task.hash},
               {"form", task.form}, {"n", task.items.size()}, {"counts", counts_raw(task) ? "raw" : "normalized"}};
  json["raw"] = measure(&ItemScore::right_raw);
  json["normalized"] = measure(&ItemScore::right_normalized);
  json["tokens_run"] = scores.n_tokens_run;
  json["tokens_shared"] = scores.n_tokens_saved;
  json["shortened"] = scores.n_shortened;
  json["seconds"] = scores.seconds;
  return json;
}

}  // namespace tsubu
