// Statistics of the bundled model: against sums over what the engine shows, and what they must not depend on.
#include "calibrate/calibrate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "calibrate/collector.h"
#include "calibrate/fisher.h"
#include "calibrate/statistics.h"
#include "container/imatrix.h"
#include "engine/engine.h"
#include "engine/random_model.h"

namespace tsubu {
namespace {

const std::string kModel = TSUBU_SOURCE_DIR "/models/grain-7m";

const Model& bundled() {
  static const auto model = Model::open(kModel);
  return *model;
}

std::string temporary(const std::string& name) { return std::string(::testing::TempDir()) + "/calibrate_" + name; }

CalibrateOptions options_for(const std::string& output, bool gram) {
  CalibrateOptions o;
  o.corpus.texts = {{kModel + "/calib.txt", 1}};
  o.corpus.context = 48;
  o.corpus.max_chunks = 3;
  o.output = temporary(output);
  o.gram = gram;
  return o;
}

CalibrateResult run(const CalibrateOptions& o, int threads = 2) {
  ThreadPool pool(threads);
  return calibrate(bundled(), o, pool);
}

std::string bytes_of(const std::string& path) { return read_text_file(path); }

struct Inputs : LinearObserver {
  std::map<std::string, std::vector<float>> x;  // by weight: (n_tokens, n_cols)
  void on_linear_input(const Op& op, const float* values, size_t n_tokens, size_t n_cols) override {
    x[op.weight].insert(x[op.weight].end(), values, values + n_tokens * n_cols);
  }
};

TEST(Calibrate, HoldsTheSumsOverWhatTheEngineShows) {
  const CalibrateOptions o = options_for("sums.gguf", true);
  const CalibrateResult result = run(o);
  EXPECT_EQ(result.n_tokens, 3u * 48);
  EXPECT_EQ(result.n_passes, 1u);
  EXPECT_EQ(result.size_bytes, std::filesystem::file_size(o.output));

  Inputs seen;
  ThreadPool pool(2);
  const auto engine = Engine::make(bundled(), pool, {.observer = &seen});
  const auto session = engine->new_session(48);
  for (const auto& chunk : read_corpus(bundled(), o.corpus).chunks) {
    session->truncate(0);
    engine->forward(*session, chunk, 0, {});
  }
  const Statistics statistics = Statistics::open(o.output);
  const std::string head = head_weight_name(bundled());
  size_t n_grams = 0;
  for (const auto& [weight, x] : seen.x) {
    const std::string name = weight == head ? "output.weight" : weight;
    ASSERT_TRUE(statistics.has(name)) << name;
    ASSERT_TRUE(statistics.has_gram(name)) << name;
    const size_t n = statistics.n_cols(name), n_tokens = x.size() / n;
    EXPECT_EQ(n_tokens, 3u * 48);
    EXPECT_EQ(statistics.n_tokens(name), n_tokens);
    const auto mean_squares = statistics.mean_squares(name), means = statistics.means(name),
               most = statistics.max_abs(name), gram = statistics.gram(name);
    ASSERT_EQ(gram.size(), n * n);
    for (size_t i = 0; i < n; ++i) {
      double sum = 0, squares = 0;
      float largest = 0;
      for (size_t t = 0; t < n_tokens; ++t) {
        const float v = x[t * n + i];
        sum += static_cast<double>(v);
        squares += static_cast<double>(v) * v;
        largest = std::max(largest, std::abs(v));
      }
      const auto tokens = static_cast<double>(n_tokens);
      EXPECT_NEAR(mean_squares[i], squares / tokens, 2e-6 * squares / tokens) << name;
      EXPECT_NEAR(means[i], sum / tokens, 2e-6 * std::sqrt(squares / tokens)) << name;
      EXPECT_EQ(most[i], largest) << name;
      EXPECT_NEAR(gram[i * n + i], squares, 2e-6 * squares) << name;
    }
    for (size_t i = 0; i < n; i += 7) {
      for (size_t j = i + 1; j < n; j += 31) {
        double product = 0, magnitude = 0;
        for (size_t t = 0; t < n_tokens; ++t) {
          const double p = static_cast<double>(x[t * n + i]) * x[t * n + j];
          product += p;
          magnitude += std::abs(p);
        }
        ASSERT_NEAR(gram[i * n + j], product, 4e-6 * magnitude) << name;
        ASSERT_EQ(gram[i * n + j], gram[j * n + i]);
      }
    }
    ++n_grams;
  }
  EXPECT_GT(n_grams, result.inputs.size()) << "linears share inputs";
  const auto sharing = statistics.sharing("blk.0.attn_v.weight");
  EXPECT_EQ(sharing, (std::vector<std::string>{"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"}));
  EXPECT_FALSE(statistics.has("token_embd.weight"));
  EXPECT_THROW(statistics.mean_squares("token_embd.weight"), Error);
}

TEST(Calibrate, BytesDependNeitherOnThreadsNorOnMemory) {
  const CalibrateOptions o = options_for("one.gguf", true);
  run(o, 1);
  const std::string expected = bytes_of(o.output);
  run(o, 3);
  EXPECT_EQ(bytes_of(o.output), expected);
  CalibrateOptions small = options_for("small.gguf", true);
  small.memory = 1;  // block by block
  small.save_seconds = 0;
  const CalibrateResult result = run(small);
  EXPECT_EQ(result.n_passes, bundled().hparams().n_layers);
  EXPECT_TRUE(bytes_of(small.output) == expected);
  EXPECT_FALSE(std::filesystem::exists(calibration_work_directory(small.output)));
  // Gram matrices change nothing in what llama.cpp reads.
  CalibrateOptions plain = options_for("plain.gguf", false);
  run(plain);
  const Imatrix a = Imatrix::load(plain.output), b = Imatrix::load(o.output);
  ASSERT_EQ(a.entries.size(), b.entries.size());
  for (const auto& [name, entry] : a.entries) EXPECT_EQ(entry.sum_squares, b.entries.at(name).sum_squares);
  EXPECT_EQ(a.chunk_count, 3u);
  EXPECT_EQ(a.chunk_size, 48u);
  EXPECT_EQ(a.datasets, std::vector<std::string>{kModel + "/calib.txt"});
}

TEST(Calibrate, TheHeadIsAChoiceAndLegacyIsTheSameMeans) {
  CalibrateOptions o = options_for("no_head.gguf", false);
  o.process_output = false;
  run(o);
  const Imatrix without = Imatrix::load(o.output);
  EXPECT_FALSE(without.entries.contains("output.weight"));
  EXPECT_TRUE(without.entries.contains("blk.0.ffn_down.weight"));
  o = options_for("legacy.dat", false);
  o.legacy = true;
  run(o);
  const Imatrix legacy = Imatrix::load(o.output);
  EXPECT_TRUE(legacy.entries.contains("output.weight"));
  for (const auto& [name, entry] : without.entries) {
    const auto a = entry.mean_squares(0), b = legacy.entries.at(name).mean_squares(0);
    for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-6f * a[i]);
  }
  EXPECT_THROW(Statistics::open(o.output), Error) << "a legacy file has no room for more";
  o.gram = true;
  EXPECT_THROW(run(o), Error);
}

TEST(Calibrate, GoesOnFromWhatAnEarlierRunLeft) {
  CalibrateOptions o = options_for("whole.gguf", true);
  run(o);
  const std::string expected = bytes_of(o.output);
  // A run that does everything but cannot write its output.
  for (uint64_t memory : {uint64_t{1}, uint64_t{1} << 30}) {
    CalibrateOptions cut = options_for("cut.gguf", true);
    cut.memory = memory;
    cut.save_seconds = 0;
    std::filesystem::remove_all(cut.output);
    std::filesystem::create_directory(cut.output);
    EXPECT_THROW(run(cut), Error);
    EXPECT_TRUE(std::filesystem::exists(calibration_work_directory(cut.output) + "/state.json"));
    std::filesystem::remove(cut.output);
    const CalibrateResult result = run(cut);
    EXPECT_GT(result.resumed_tokens, 0u);
    EXPECT_TRUE(bytes_of(cut.output) == expected);
    EXPECT_FALSE(std::filesystem::exists(calibration_work_directory(cut.output)));
  }
}

// Output gradients: what FisherSums finds, in a file, whatever the number of threads; the importance matrix stays.
TEST(Calibrate, OutputGradientsAreThoseOfTheirChunks) {
  CalibrateOptions o = options_for("fisher.gguf", true);
  o.fisher = true;
  o.fisher_tokens = 2 * 48;
  o.memory = 1 << 20;  // several blocks of rows
  const CalibrateResult result = run(o);
  EXPECT_EQ(result.fisher_tokens, 2u * 48);
  const std::string expected = bytes_of(o.output);
  run(o, 3);
  EXPECT_TRUE(bytes_of(o.output) == expected);
  ThreadPool pool(2);
  const Corpus corpus = read_corpus(bundled(), o.corpus);
  const Statistics statistics = Statistics::open(o.output);
  FisherSums sums(bundled().graph(), statistics.output_block_rows(), pool);
  Backward backward(bundled(), pool);
  for (size_t i = 0; i < 2; ++i) add_fisher_window(backward, corpus.chunks[i * 3 / 2], o.fisher_seed, i * 3 / 2, sums, pool);
  size_t n_blocks = 0, n_weights = 0;
  for (const auto& [name, blocks] : sums.sums()) {
    ASSERT_TRUE(statistics.has_output_gram(name)) << name;
    const size_t n_rows = bundled().tensor(name).n_rows();
    n_blocks += blocks.size();
    ++n_weights;
    for (size_t first = 0; first < n_rows; first += statistics.output_block_rows()) {
      const auto want = sums.block(name, first), found = statistics.output_gram(name, n_rows, first);
      ASSERT_EQ(found.size(), want.size());
      for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(found[i], want[i], 1e-6f * std::fabs(want[i])) << name;
    }
    EXPECT_THROW(statistics.output_gram(name, n_rows + 1, 0), Error);
  }
  EXPECT_GT(n_blocks, n_weights);
  EXPECT_FALSE(statistics.has_output_gram("output.weight"));
  const Imatrix a = Imatrix::load(o.output);
  CalibrateOptions plain = options_for("no_fisher.gguf", false);
  run(plain);
  for (const auto& [name, entry] : Imatrix::load(plain.output).entries)
    EXPECT_EQ(entry.sum_squares, a.entries.at(name).sum_squares);
  // Merged with itself: the same means.
  CalibrateOptions again = o;
  again.output = temporary("fisher2.gguf");
  run(again);
  const std::string both = temporary("fisher_both.gguf");
  merge_statistics({o.output, again.output}, both);
  const Statistics merged = Statistics::open(both);
  const std::string name = sums.sums().begin()->first;
  const size_t n_rows = bundled().tensor(name).n_rows();
  EXPECT_EQ(merged.output_gram(name, n_rows, 0), statistics.output_gram(name, n_rows, 0));
  // A run that stops behind the activations keeps them and the gradients it has.
  CalibrateOptions cut = o;
  cut.output = temporary("fisher_cut.gguf");
  cut.save_seconds = 0;
  std::filesystem::remove_all(cut.output);
  std::filesystem::create_directory(cut.output);
  EXPECT_THROW(run(cut), Error);
  EXPECT_TRUE(std::filesystem::exists(calibration_work_directory(cut.output) + "/fisher"));
  std::filesystem::remove(cut.output);
  EXPECT_GT(run(cut).resumed_tokens, 0u);
  EXPECT_TRUE(bytes_of(cut.output) == expected);
  o.legacy = true;
  o.gram = false;
  EXPECT_THROW(run(o), Error);
}

TEST(Calibrate, WorkOfAnotherRunIsNotUsed) {
  CalibrateOptions o = options_for("other.gguf", false);
  o.save_seconds = 0;
  std::filesystem::remove_all(o.output);
  std::filesystem::create_directory(o.output);
  EXPECT_THROW(run(o), Error);
  std::filesystem::remove(o.output);
  o.corpus.max_chunks = 2;
  EXPECT_EQ(run(o).resumed_tokens, 0u);
  EXPECT_EQ(Imatrix::load(o.output).entries.at("blk.0.attn_q.weight").counts[0], 96.0f);
}

TEST(Calibrate, MergedFilesAreTheSums) {
  CalibrateOptions a = options_for("a.gguf", true), b = options_for("b.gguf", true),
                   both = options_for("both.gguf", true);
  b.corpus.texts = {{kModel + "/heldout.txt", 1}};
  both.corpus.texts = {a.corpus.texts[0], b.corpus.texts[0]};
  both.corpus.max_chunks = 6;
  run(a);
  run(b);
  run(both);
  const std::string merged_path = temporary("merged.gguf");
  const uint64_t merged_bytes = merge_statistics({a.output, b.output}, merged_path);
  EXPECT_EQ(merged_bytes, std::filesystem::file_size(merged_path));
  const GgufFile merged = GgufFile::open(merged_path), expected = GgufFile::open(both.output);
  ASSERT_EQ(merged.tensors().size(), expected.tensors().size());
  EXPECT_EQ(Imatrix::load(merged_path).chunk_count, 6u);
  EXPECT_EQ(Imatrix::load(merged_path).datasets.size(), 2u);
  const Statistics statistics = Statistics::open(both.output);
  for (const GgufTensor& t : merged.tensors()) {
    const auto* x = reinterpret_cast<const float*>(t.data.data());
    const auto* y = reinterpret_cast<const float*>(expected.find(t.name)->data.data());
    double scale = 0;
    for (size_t i = 0; i < t.n_elements(); ++i) scale = std::max(scale, static_cast<double>(std::abs(y[i])));
    for (size_t i = 0; i < t.n_elements(); ++i) ASSERT_NEAR(x[i], y[i], 1e-6 * scale) << t.name;
  }
  EXPECT_THROW(merge_statistics({a.output}, merged_path), Error);
  EXPECT_THROW(merge_statistics({a.output, b.output}, a.output), Error);
  CalibrateOptions plain = options_for("plain2.gguf", false);
  run(plain);
  EXPECT_THROW(merge_statistics({a.output, plain.output}, merged_path), Error);
  EXPECT_THROW(merge_statistics({plain.output, a.output}, merged_path), Error);
}

TEST(Collector, SaysWhichInputIsNotFinite) {
  const RandomModel model(RandomModelOptions{});
  ThreadPool pool(1);
  Collector collector(statistics_inputs(model, 2, true), pool);
  collector.select(0, collector.inputs().size(), false);
  const auto engine = Engine::make(model, pool, {.observer = &collector});
  engine->forward(*engine->new_session(4), std::vector<TokenId>{1, 2, 3}, 0, {});
  EXPECT_NO_THROW(collector.check_finite("here"));
  for (size_t i = 0; i < collector.inputs().size(); ++i) EXPECT_EQ(collector.moments(i).n_tokens(), 3u);
  EXPECT_EQ(collector.inputs().back().linears, std::vector<std::string>{"output.weight"});
  EXPECT_EQ(collector.inputs().back().block, 2u);
  Op op;
  op.weight = collector.inputs()[1].first_weight;
  const std::vector<float> bad(collector.inputs()[1].n_cols, NAN);
  collector.on_linear_input(op, bad.data(), 1, bad.size());
  try {
    collector.check_finite("chunk 7");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kNumeric);
    EXPECT_NE(std::string(e.what()).find(op.weight), std::string::npos);
  }
}

// Experts: the tokens that the router gave to each, and with everything routed everywhere, all tokens for all, without
// another change.
TEST(Collector, CountsTheTokensOfExperts) {
  RandomModelOptions options;
  options.n_experts = 5;
  options.n_used = 2;
  RandomModel model(options);
  ThreadPool pool(2);
  const auto tokens = random_tokens(40, 50, 3);
  const auto collect = [&](std::vector<float>& logits) {
    auto collector = std::make_unique<Collector>(statistics_inputs(model, 2, true), pool);
    collector->select(0, collector->inputs().size(), false);
    const auto engine = Engine::make(model, pool, {.observer = collector.get()});
    const auto session = engine->new_session(tokens.size());
    logits.resize(tokens.size() * 50);
    engine->forward(*session, tokens, tokens.size(), logits);
    return collector;
  };
  std::vector<float> logits, all_logits;
  const auto routed = collect(logits);
  model.route_all_experts();
  const auto everywhere = collect(all_logits);
  EXPECT_EQ(logits, all_logits);
  size_t n_inputs = 0;
  for (size_t i = 0; i < routed->inputs().size(); ++i) {
    const StatisticsInput& input = routed->inputs()[i];
    if (input.n_experts == 0) {
      EXPECT_TRUE(std::ranges::equal(routed->moments(i).squares(), everywhere->moments(i).squares()));
      continue;
    }
    ++n_inputs;
    uint64_t total = 0;
    for (size_t e = 0; e < 5; ++e) {
      total += routed->moments(i, e).n_tokens();
      EXPECT_EQ(everywhere->moments(i, e).n_tokens(), tokens.size());
      for (size_t c = 0; c < input.n_cols; ++c)
        EXPECT_LE(routed->moments(i, e).squares()[c], everywhere->moments(i, e).squares()[c] * (1 + 1e-6));
    }
    EXPECT_EQ(total, 2 * tokens.size());
  }
  EXPECT_EQ(n_inputs, 4u);  // gate and up, down; in two layers
  EXPECT_THROW(RandomModel({}).route_all_experts(), Error);
}

}  // namespace
}  // namespace tsubu
