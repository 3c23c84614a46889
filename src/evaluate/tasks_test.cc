#include "evaluate/tasks.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cmath>
#include <filesystem>
#include <functional>

#include "base/test_error_code.h"
#include "base/file.h"
#include "base/progress.h"
#include "engine/engine.h"
#include "evaluate/generation.h"
#include "evaluate/weight_diff.h"

namespace tsubu {
namespace {

const std::string kModel = TSUBU_SOURCE_DIR "/models/grain-7m";

class Tasks : public ::testing::Test {
 protected:
  void SetUp() override {
    set_quiet(true);
    char name[] = "/tmp/tsubu-tasks-XXXXXX";
    folder_ = mkdtemp(name);
  }
  void TearDown() override {
    set_quiet(false);
    std::filesystem::remove_all(folder_);
  }
  Task read(const std::string& name, const std::string& text, uint32_t limit = 0) {
    write_text_file(folder_ + "/" + name, text);
    return read_task(folder_ + "/" + name, limit);
  }
  std::string folder_;
  ThreadPool pool_{2};
};

TEST_F(Tasks, PublishedFormsBecomeQuestions) {
  const Task query = read("q.jsonl",
                          "{\"query\": \"Question: Why?\", \"choices\": [\"a\", \"b\"], \"gold\": 1}\n\n{\"query\": "
                          "\"It is\", \"choices\": [\"c\"], \"gold\": 0}\n");
  EXPECT_EQ(query.form, "query");
  ASSERT_EQ(query.items.size(), 2u);
  EXPECT_EQ(query.items[0].choices[1].context, "Question: Why?\nAnswer:");
  EXPECT_EQ(query.items[0].choices[1].continuation, " b");
  EXPECT_EQ(query.items[0].gold, 1u);
  EXPECT_EQ(query.items[1].choices[0].context, "It is");

  const Task wino = read("w.jsonl", R"({"context_options": ["A x", "A y"], "continuation": "end.", "gold": 1})");
  EXPECT_EQ(wino.items[0].choices[1].context, "A y");
  EXPECT_EQ(wino.items[0].choices[0].continuation, " end.");
  EXPECT_TRUE(counts_raw(wino));
  EXPECT_FALSE(counts_raw(query));

  const Task published =
      read("wg.jsonl", R"({"sentence": "The _ fell.", "option1": "cup", "option2": "sky", "answer": "1"})");
  EXPECT_EQ(published.items[0].choices[0].context, "The cup");
  EXPECT_EQ(published.items[0].choices[0].continuation, " fell.");
  EXPECT_EQ(published.items[0].gold, 0u);

  const Task arc = read(
      "a.jsonl",
      R"({"question": {"stem": "S?", "choices": [{"text": "x", "label": "A"}, {"text": "y", "label": "B"}]}, "answerKey": "B"})");
  EXPECT_EQ(arc.items[0].gold, 1u);
  const Task mmlu =
      read("m.jsonl", R"({"question": "S?", "choices": ["x", "y", "z"], "answer": "C", "subject": "law"})");
  EXPECT_EQ(mmlu.items[0].gold, 2u);
  EXPECT_EQ(mmlu.items[0].group, "law");
  const Task ja = read("j.json", R"([{"question": "何？", "choice0": "猫", "choice1": "犬", "label": 1}])");
  EXPECT_EQ(ja.items[0].choices[1].continuation, "犬");
  EXPECT_EQ(ja.items[0].gold, 1u);
  const Task csv = read("t.csv",
                        "\xEF\xBB\xBFType,Category,Question,Best Answer,Incorrect Answers\r\nA,Law,\"What, "
                        "then?\",\"The \"\"best\"\"\",one; two\r\n");
  EXPECT_EQ(csv.form, "truthfulqa");
  ASSERT_EQ(csv.items[0].choices.size(), 3u);
  EXPECT_EQ(csv.items[0].choices[0].continuation, " The \"best\"");
  EXPECT_EQ(csv.items[0].choices[0].context, "Q: What, then?\nA:");
  EXPECT_EQ(csv.items[0].group, "Law");
  const Task pairs = read("p.jsonl", R"({"prompt": "1 2", "answer": "3", "label": "math"})");
  EXPECT_EQ(pairs.items[0].choices.size(), 1u);
  EXPECT_EQ(pairs.items[0].group, "math");
  EXPECT_EQ(
      read("l.jsonl", "{\"prompt\": \"a\", \"answer\": \"b\"}\n{\"prompt\": \"a\", \"answer\": \"b\"}", 1).items.size(),
      1u);
}

TEST_F(Tasks, WhatIsNoQuestionIsRefused) {
  EXPECT_EQ(code_of([&] { read("a.jsonl", R"({"what": 1})"); }), ExitCode::kUnsupported);
  EXPECT_EQ(code_of([&] { read("b.jsonl", R"({"query": "x", "choices": ["a"], "gold": 1})"); }), ExitCode::kBadInput);
  EXPECT_EQ(code_of([&] { read("c.jsonl", R"({"query": 3, "choices": ["a"], "gold": 0})"); }), ExitCode::kBadInput);
  EXPECT_EQ(code_of([&] { read("d.jsonl", R"({"query": "x", "choices": [" "], "gold": 0})"); }), ExitCode::kBadInput);
  EXPECT_EQ(code_of([&] { read("e.jsonl", ""); }), ExitCode::kBadInput);
  EXPECT_EQ(code_of([&] { read("f.jsonl", "{\"query\": \"x\", \"choices\": [\"a\"], \"gold\": 0}\n{\"x\": 1}"); }),
            ExitCode::kBadInput);
}

// Shared prefixes change nothing: every log-likelihood is that of the whole sequence run alone.
TEST_F(Tasks, ScoresAreThoseOfWholeSequences) {
  const auto model = Model::open(kModel);
  const Task task =
      read("q.jsonl",
           "{\"query\": \"Once upon a time there was a\", \"choices\": [\"little girl\", \"little dog named Tom.\", "
           "\"of\"], \"gold\": 0}\n"
           "{\"query\": \"Once upon a time there was a king. He\", \"choices\": [\"had\", \"sun\"], \"gold\": 0}\n");
  const TaskScores scores = score_task(task, *model, false, pool_);
  EXPECT_GT(scores.n_tokens_saved, 20u);
  const auto engine = Engine::make(*model, pool_);
  const auto tokenizer = model->make_tokenizer();
  const size_t n_vocab = engine->n_vocab();
  for (size_t i = 0; i < task.items.size(); ++i) {
    for (size_t c = 0; c < task.items[i].choices.size(); ++c) {
      const TaskChoice& choice = task.items[i].choices[c];
      const auto context = tokenizer->encode(choice.context),
                 whole = tokenizer->encode(choice.context + choice.continuation);
      ASSERT_TRUE(std::equal(context.begin(), context.end(), whole.begin()));
      std::vector<float> logits(whole.size() * n_vocab);
      engine->forward(*engine->new_session(whole.size()), whole, whole.size(), logits);
      double expected = 0;
      for (size_t t = context.size(); t < whole.size(); ++t) {
        const float* row = logits.data() + (t - 1) * n_vocab;
        double sum = 0;
        for (size_t v = 0; v < n_vocab; ++v) sum += std::exp(static_cast<double>(row[v]));
        expected += static_cast<double>(row[whole[t]]) - std::log(sum);
      }
      const ChoiceScore& got = scores.items[i].choices[c];
      EXPECT_EQ(got.n_tokens, whole.size() - context.size());
      EXPECT_NEAR(got.log_likelihood, expected, 1e-4 * std::abs(expected));
      EXPECT_EQ(got.n_bytes, choice.continuation.size() - 1);
    }
  }
  EXPECT_TRUE(scores.items[0].right_raw ||
              scores.items[0].choices[2].log_likelihood > scores.items[0].choices[0].log_likelihood);
}

TEST_F(Tasks, LongContextsLoseTheirBeginning) {
  const auto model = Model::open(kModel);
  std::string text;
  for (int i = 0; i < 300; ++i) text += "word ";
  const Task task = read("q.jsonl", "{\"query\": \"" + text + "\", \"choices\": [\"a\", \"b c d\"], \"gold\": 0}");
  const TaskScores scores = score_task(task, *model, false, pool_);
  EXPECT_EQ(scores.n_shortened, 1u);
  EXPECT_LT(scores.items[0].choices[0].log_likelihood, 0);
}

TEST_F(Tasks, AModelAgreesWithItself) {
  const auto model = Model::open(kModel);
  const Task task =
      read("q.jsonl",
           "{\"query\": \"She was\", \"choices\": [\"happy\", \"the\"], \"gold\": 0, \"group\": \"g\"}\n{\"query\": "
           "\"He was\", \"choices\": [\"the\", \"sad\"], \"gold\": 0, \"group\": \"h\"}");
  const TaskScores scores = score_task(task, *model, false, pool_);
  const TaskComparison c = compare_task(task, scores, scores);
  EXPECT_EQ(c.raw.flips(), 0);
  EXPECT_EQ(c.normalized.n(), 2u);
  EXPECT_EQ(c.groups.size(), 2u);
  EXPECT_TRUE(c.most_moved.empty());
}

TEST(Repetition, IsTheShareOfRunsSeenBefore) {
  EXPECT_EQ(repetition_share(std::vector<TokenId>{1, 2, 3}), 0);
  EXPECT_EQ(repetition_share(std::vector<TokenId>{1, 2, 3, 4, 5, 6, 7}), 0);
  EXPECT_EQ(repetition_share(std::vector<TokenId>{1, 1, 1, 1, 1, 1}), 2.0 / 3);
}

TEST(Generations, AreComparedTokenByToken) {
  Generation a, b;
  a.tokens = {1, 2, 3, 4};
  b.tokens = {1, 2, 9};
  b.ended = true;
  const std::vector<Generation> base = {a, a}, candidate = {a, b};
  const GenerationComparison c = compare_generations(base, candidate);
  EXPECT_EQ(c.same_share, 0.5);
  EXPECT_EQ(c.median_first_difference, 2);
  EXPECT_EQ(c.length_ratio, 7.0 / 8);
  EXPECT_EQ(c.base_unended, 2u);
  EXPECT_EQ(c.unended, 1u);
}

TEST_F(Tasks, GenerationIsGreedyAndOfTheRightLength) {
  const auto model = Model::open(kModel);
  write_text_file(folder_ + "/p.txt", "Once upon a time\n\n{\"prompt\": \"The sun\", \"group\": \"g\"}\n");
  const std::vector<Prompt> prompts = read_prompts(folder_ + "/p.txt");
  ASSERT_EQ(prompts.size(), 2u);
  EXPECT_EQ(prompts[1].group, "g");
  const auto all = generate(prompts, *model, 5, false, pool_);
  EXPECT_EQ(all[0].tokens.size(), 5u);
  EXPECT_EQ(compare_generations(all, generate(prompts, *model, 5, false, pool_)).same_share, 1);
}

TEST(WeightDifference, OfAModelFromItselfIsNothing) {
  set_quiet(true);
  const auto model = Model::open(kModel);
  ThreadPool pool(2);
  const WeightDifferences w = compare_weights(*model, *model, pool);
  EXPECT_EQ(w.n_findings(), 0u);
  EXPECT_TRUE(w.configuration.empty());
  EXPECT_EQ(w.tensors.size(), model->tensors().size());
  for (const TensorDifference& d : w.tensors) EXPECT_EQ(d.rel_error, 0) << d.name;
  set_quiet(false);
}

}  // namespace
}  // namespace tsubu
