#include "tune/qat.h"

#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <thread>

#include "base/file.h"
#include "base/progress.h"
#include "base/test_error_code.h"
#include "engine/random_model.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

// Training a small random model in a coarse type.
struct Trial {
  explicit Trial(const std::string& type_name, const std::function<void(RandomModelOptions&)>& change = [](auto&) {})
      : model(random_options([&](RandomModelOptions& o) {
          o.n_ff = 64;
          change(o);
        })) {
    for (const ModelTensor& t : model.tensors()) {
      const bool rounds = t.spec().shape.size() > 1 && t.name() != "token_embd.weight";
      tensors[t.name()].type = &type_named(rounds ? type_name : "F32");
    }
    corpus.context = 40;
    for (uint32_t i = 0; i < 800; ++i) corpus.chunks.push_back(random_tokens(corpus.context, 50, 100 + i));
    corpus.hash = "random";
    options.tokens_per_step = 160;
    options.n_tokens = 24000;  // no window twice: random tokens are learned by heart
    options.judged_tokens = 1200;
    options.held_out = 0.125;
    options.n_evaluations = 4;
    options.adam.min_8bit = 1000;
    options.rate = 0.005;
    fs::remove(path());
  }
  ~Trial() { fs::remove(path()); }
  static std::string path() {
    return (fs::temp_directory_path() / ("tsubu_qat_test." + std::to_string(getpid()))).string();
  }
  QatResult run(int n_threads = 2) const {
    ThreadPool pool(n_threads);
    return Qat(model, tensors, corpus, options, pool).run();
  }
  RandomModel model;
  std::map<std::string, QatTensor> tensors;
  Corpus corpus;
  QatOptions options;
};

class EveryType : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Qat, EveryType, ::testing::Values("Q4_0", "IQ4_NL", "Q5_1", "MXFP4", "F16"),
                         [](const auto& p) { return std::string(p.param); });

TEST_P(EveryType, BringsTheModelNearerToTheFloatOne) {
  Trial trial(GetParam());
  if (std::string(GetParam()) == "Q5_1") trial.options.rate /= 10;  // fine types want small steps
  const QatResult r = trial.run();
  ASSERT_EQ(r.curve.size(), 5u);
  EXPECT_EQ(r.n_steps, 150u);
  const double first = r.curve.front().divergence, last = r.curve[r.best].divergence;
  if (std::string(GetParam()) == "F16") {
    EXPECT_LT(first, 1e-5);  // nothing to win
  } else {
    // Nothing that a random model says can be learned but what rounding did to it: fine types have little to win back.
    EXPECT_LT(last, (std::string(GetParam()) == "MXFP4" ? 0.7 : 1.0) * first);
  }
  for (const auto& [name, q] : trial.tensors)
    EXPECT_EQ(r.tensors.at(name).size(), tensor_bytes(*q.type, trial.model.tensor(name).n_rows(), trial.model.tensor(name).n_cols()));
}

// What is given back is what was judged: a model of those rows has the divergence of the best point.
void expect_rows_are_judged(bool with_biases) {
  const auto change = [&](RandomModelOptions& o) { o.gpt2 = with_biases; };
  Trial trial("Q4_0", change);
  const QatResult r = trial.run();
  std::map<std::string, QatTensor> exact;
  RandomModel trained(random_options([&](auto& o) {
    o.n_ff = 64;
    change(o);
  }));
  for (const auto& [name, q] : trial.tensors) {
    const ModelTensor& t = trial.model.tensor(name);
    std::vector<float> values(t.n_elements());
    q.type->decode(r.tensors.at(name).data(), values.data(), values.size());
    std::copy(values.begin(), values.end(), reinterpret_cast<float*>(const_cast<std::byte*>(trained.tensor(name).raw().data())));
    exact[name] = {&type_named("F32"), true};
  }
  QatOptions judge = trial.options;
  judge.start = &trained;
  judge.n_tokens = 1;
  ThreadPool pool(1);
  const QatResult again = Qat(trial.model, exact, trial.corpus, judge, pool).run();
  EXPECT_EQ(again.curve.front().divergence, r.curve[r.best].divergence);
  EXPECT_EQ(again.curve.back().divergence, again.curve.front().divergence) << "everything is frozen";
  EXPECT_EQ(again.n_trained, 0u);
}

TEST(Qat, RowsAreThoseThatWereJudged) { expect_rows_are_judged(false); }
TEST(Qat, BiasesAreThoseThatWereJudged) { expect_rows_are_judged(true); }

// Of linears and of layer norms; also those that are zeros, but none that is frozen.
TEST(Qat, TrainsBiases) {
  Trial trial("Q4_0", [](RandomModelOptions& o) { o.gpt2 = true; });
  const auto floats = [&](const std::string& name) {
    const auto raw = trial.model.tensor(name).raw();
    return std::span(reinterpret_cast<float*>(const_cast<std::byte*>(raw.data())), raw.size() / sizeof(float));
  };
  std::ranges::fill(floats("blk.0.ffn_up.bias"), 0.0f);
  trial.tensors["blk.1.ffn_up.bias"].is_frozen = true;
  trial.options.n_tokens = 4800;
  const QatResult r = trial.run();
  size_t n = 0;
  for (const auto& [name, rows] : r.tensors) {
    if (!name.ends_with(".bias")) continue;
    ++n;
    const auto start = trial.model.tensor(name).raw();
    EXPECT_EQ(std::equal(rows.begin(), rows.end(), start.begin(), start.end()), name == "blk.1.ffn_up.bias") << name;
  }
  EXPECT_EQ(n, static_cast<size_t>(std::ranges::count_if(trial.model.tensors(), [](const ModelTensor& t) { return t.name().ends_with(".bias"); })));
  EXPECT_GT(n, 8u);
  EXPECT_LT(r.curve[r.best].divergence, r.curve.front().divergence);
  EXPECT_GT(r.best, 0u);
}

TEST(Qat, DoesNotDependOnThreads) {
  for (const bool experts : {false, true}) {
    const Trial trial("Q4_0", [&](RandomModelOptions& o) { o.n_experts = experts ? 4 : 0; });
    const QatResult one = trial.run(1), three = trial.run(3);
    EXPECT_EQ(one.tensors, three.tensors);
    EXPECT_EQ(one.curve.back().divergence, three.curve.back().divergence);
    EXPECT_LT(one.curve[one.best].divergence, one.curve.front().divergence);
  }
}

TEST(Qat, TrainsInBfloat16AndJudgesInF32) {
  Trial trial("Q4_0");
  const QatResult exact = trial.run();
  trial.options.bf16_products = true;
  const QatResult rounded = trial.run(1);
  EXPECT_EQ(rounded.curve.front().divergence, exact.curve.front().divergence);
  EXPECT_NE(rounded.tensors, exact.tensors);
  EXPECT_LT(rounded.curve[rounded.best].divergence, rounded.curve.front().divergence);
  EXPECT_EQ(rounded.tensors, trial.run(3).tensors);
}

// Rounded inputs: what is learned makes up for them too.
TEST(Qat, TrainsWithRoundedActivations) {
  Trial trial("Q4_0");
  const QatResult without = trial.run();
  trial.options.activations = parse_scheme("int4:token", SchemeUse::kActivations);
  const QatResult with = trial.run();
  EXPECT_GT(with.curve.front().divergence, 1.2 * without.curve.front().divergence);
  EXPECT_LT(with.curve[with.best].divergence, 0.8 * with.curve.front().divergence);
  trial.options.activations = parse_scheme("int8:tensor", SchemeUse::kActivations);
  EXPECT_EQ(code_of([&] { trial.run(); }), ExitCode::kUsage);
}

TEST(Qat, LearnsTheTextInstead) {
  Trial trial("Q4_0");
  // A text with a rule: every token is followed by the next one.
  for (size_t c = 0; c < trial.corpus.chunks.size(); ++c)
    for (size_t i = 0; i < trial.corpus.chunks[c].size(); ++i) trial.corpus.chunks[c][i] = static_cast<TokenId>((7 * c + i) % 50);
  trial.options.loss = TrainingLoss::kCrossEntropy;
  const QatResult r = trial.run();
  EXPECT_LT(r.curve[r.best].cross_entropy, 0.5 * r.float_cross_entropy);
}

// Interrupted in the middle, also while it judges, and gone on with: the bytes of a run that was left alone.
TEST(Qat, GoesOnFromACheckpointToTheSameBytes) {
  const Trial plain("Q4_0");
  const QatResult whole = plain.run();
  Trial trial("Q4_0");
  trial.options.checkpoint = Trial::path();
  install_interrupt_handler();
  // The interrupt's flag stays set for the life of a process: each part runs in a child of its own.
  const auto in_child = [&](const std::function<void()>& f) {
    const pid_t child = fork();
    if (child == 0) {
      set_quiet(true);
      f();
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  size_t n_interrupts = 0;
  for (int part = 0; part < 1000; ++part) {
    const int code = in_child([&] {
      std::thread killer([part] {
        std::this_thread::sleep_for(std::chrono::milliseconds(25 + part));
        raise(SIGINT);
      });
      killer.detach();
      try {
        const QatResult r = trial.run();
        _exit(r.tensors == whole.tensors && r.curve.back().divergence == whole.curve.back().divergence ? 0 : 7);
      } catch (const Error& e) {
        _exit(e.code() == ExitCode::kInterrupted ? 1 : 8);
      }
    });
    ASSERT_TRUE(code == 0 || code == 1) << code;
    if (code == 0) break;
    ++n_interrupts;
    EXPECT_LT(part, 999) << "no progress";
  }
  EXPECT_GT(n_interrupts, 0u);
}

TEST(Qat, RefusesTheCheckpointOfAnotherRunAndTooLittleText) {
  Trial trial("Q4_0");
  trial.options.checkpoint = Trial::path();
  trial.options.n_tokens = 160;
  trial.run();
  ASSERT_TRUE(fs::exists(Trial::path()));
  trial.options.rate = 0.01;
  EXPECT_EQ(code_of([&] { trial.run(); }), ExitCode::kUsage);
  write_text_file(Trial::path(), "not a checkpoint");
  EXPECT_EQ(code_of([&] { trial.run(); }), ExitCode::kBadInput);
  fs::remove(Trial::path());
  trial.corpus.chunks.resize(2);
  EXPECT_EQ(code_of([&] { trial.run(); }), ExitCode::kUsage);
}

TEST(Qat, AnEstimateChangesNothing) {
  const Trial trial("Q4_0");
  ThreadPool pool(2);
  Qat qat(trial.model, trial.tensors, trial.corpus, trial.options, pool);
  const QatEstimate e = qat.estimate();
  EXPECT_EQ(e.n_steps, 150u);
  EXPECT_GT(e.seconds, 0);
  EXPECT_GT(e.memory_bytes, e.checkpoint_bytes);
  EXPECT_EQ(qat.run().tensors, trial.run().tensors);
}

}  // namespace
}  // namespace tsubu
