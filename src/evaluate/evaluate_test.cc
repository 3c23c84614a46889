#include "evaluate/evaluate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/test_error_code.h"
#include "base/progress.h"
#include "engine/random_model.h"

namespace tsubu {
namespace {

class Evaluate : public ::testing::Test {
 protected:
  void SetUp() override { set_quiet(true); }
  void TearDown() override { set_quiet(false); }

  static EvalOptions options(uint32_t context) {
    EvalOptions o;
    o.context = context;
    o.n_bootstrap = 100;
    return o;
  }

  EvalResult run(const Model& candidate, const Model* base, const EvalOptions& o) {
    return evaluate(candidate, base, tokens_, o, pool_);
  }

  ThreadPool pool_{2};
  std::vector<TokenId> tokens_ = random_tokens(100, 50, 1);
};

// Log-probabilities in double of what follows each of the given tokens.
std::vector<std::vector<double>> log_probabilities(const Model& model, const std::vector<TokenId>& tokens,
                                                   ThreadPool& pool) {
  const auto engine = Engine::make(model, pool);
  const size_t n_vocab = engine->n_vocab();
  std::vector<float> logits(tokens.size() * n_vocab);
  engine->forward(*engine->new_session(tokens.size()), tokens, tokens.size(), logits);
  std::vector<std::vector<double>> rows;
  for (size_t t = 0; t < tokens.size(); ++t) {
    std::vector<double> row(logits.begin() + static_cast<ptrdiff_t>(t * n_vocab),
                            logits.begin() + static_cast<ptrdiff_t>((t + 1) * n_vocab));
    double sum = 0;
    for (double l : row) sum += std::exp(l);
    for (double& l : row) l -= std::log(sum);
    rows.push_back(row);
  }
  return rows;
}

struct Expected {
  std::vector<double> nll, base_nll, kld;
  std::vector<bool> top1;
};

// The protocol in plain words: chunks of `context`, positions `first` … context - 2 scored.
Expected expected(const RandomModel& candidate, const RandomModel& base, const std::vector<TokenId>& tokens,
                  size_t context, size_t first, TokenId bos, ThreadPool& pool) {
  Expected e;
  for (size_t begin = 0; begin + context <= tokens.size(); begin += context) {
    std::vector<TokenId> chunk(tokens.begin() + static_cast<ptrdiff_t>(begin),
                               tokens.begin() + static_cast<ptrdiff_t>(begin + context));
    if (bos >= 0) chunk[0] = bos;
    const auto p = log_probabilities(base, chunk, pool), q = log_probabilities(candidate, chunk, pool);
    for (size_t t = first; t + 1 < context; ++t) {
      const auto next = static_cast<size_t>(chunk[t + 1]);
      double kld = 0;
      for (size_t i = 0; i < p[t].size(); ++i) kld += std::exp(p[t][i]) * (p[t][i] - q[t][i]);
      e.nll.push_back(-q[t][next]);
      e.base_nll.push_back(-p[t][next]);
      e.kld.push_back(kld);
      e.top1.push_back(std::max_element(p[t].begin(), p[t].end()) - p[t].begin() ==
                       std::max_element(q[t].begin(), q[t].end()) - q[t].begin());
    }
  }
  return e;
}

double mean(const std::vector<double>& x) {
  double sum = 0;
  for (double v : x) sum += v;
  return sum / static_cast<double>(x.size());
}

// Scores are kept as floats, and log-sum-exp has the error of a float exp: a few units each, of values below ~10.
constexpr double kTolerance = 16 * 0x1p-24;

void expect_result(const EvalResult& r, const Expected& e) {
  const auto n = static_cast<double>(e.nll.size());
  EXPECT_EQ(r.n_tokens_scored, e.nll.size());
  EXPECT_NEAR(r.perplexity.mean_nll, mean(e.nll), kTolerance * 10);
  EXPECT_NEAR(r.perplexity.mean, std::exp(mean(e.nll)), kTolerance * 10 * std::exp(mean(e.nll)));
  EXPECT_NEAR(r.base_perplexity.mean_nll, mean(e.base_nll), kTolerance * 10);
  double variance = 0;
  for (double v : e.nll) variance += (v - mean(e.nll)) * (v - mean(e.nll)) / n;
  EXPECT_NEAR(r.perplexity.stderr_, r.perplexity.mean * std::sqrt(variance / (n - 1)), 1e-4 * r.perplexity.stderr_);
  const DivergenceResult& d = r.divergence;
  EXPECT_NEAR(d.mean, mean(e.kld), kTolerance);
  EXPECT_NEAR(d.max, *std::max_element(e.kld.begin(), e.kld.end()), kTolerance * d.max);
  EXPECT_EQ(d.top1_agreement, static_cast<double>(std::count(e.top1.begin(), e.top1.end(), true)) / n);
  EXPECT_NEAR(d.ln_ppl_ratio, mean(e.nll) - mean(e.base_nll), kTolerance * 10);
  double square = 0;
  for (size_t i = 0; i < e.nll.size(); ++i) square += std::pow(std::exp(-e.nll[i]) - std::exp(-e.base_nll[i]), 2) / n;
  EXPECT_NEAR(d.rms_delta_p, std::sqrt(square), kTolerance * 10);
  EXPECT_LE(d.median, d.p90);
  EXPECT_LE(d.p90, d.p95);
  EXPECT_LE(d.p95, d.p99);
  EXPECT_LE(d.p99, d.p999);
  EXPECT_LE(d.p999, d.max);
  for (const auto& [value, interval] :
       {std::pair(d.mean, d.mean_ci95), {d.top1_agreement, d.top1_ci95}, {d.ln_ppl_ratio, d.ln_ppl_ratio_ci95}}) {
    EXPECT_LE(interval.low, value);
    EXPECT_GE(interval.high, value);
  }
}

RandomModelOptions seeded(uint32_t seed) {
  RandomModelOptions o;
  o.seed = seed;
  return o;
}

TEST_F(Evaluate, LlamaCppProtocolIsWhatItSays) {
  const RandomModel candidate(seeded(1)), base(seeded(2));
  const EvalResult r = run(candidate, &base, options(24));
  EXPECT_EQ(r.n_chunks, 4u);
  EXPECT_EQ(r.n_tokens, 96u);
  EXPECT_EQ(r.n_tokens_scored, 4u * 11u);
  expect_result(r, expected(candidate, base, tokens_, 24, 12, -1, pool_));
}

TEST_F(Evaluate, ChunksStartWithBosWhenTheVocabularyAddsIt) {
  RandomModel candidate(seeded(1)), base(seeded(2));
  candidate.vocabulary_to_change().bos = 3;
  const Expected without = expected(candidate, base, tokens_, 20, 10, -1, pool_);
  expect_result(run(candidate, &base, options(20)), without);
  candidate.vocabulary_to_change().add_bos = true;
  const Expected with = expected(candidate, base, tokens_, 20, 10, 3, pool_);
  expect_result(run(candidate, &base, options(20)), with);
  EXPECT_NE(mean(with.nll), mean(without.nll));
}

TEST_F(Evaluate, PaperProtocolScoresEveryPosition) {
  const RandomModel candidate(seeded(1)), base(seeded(2));
  EvalOptions o = options(20);
  o.protocol = EvalProtocol::kPaper;
  expect_result(run(candidate, &base, o), expected(candidate, base, tokens_, 20, 0, -1, pool_));
}

TEST_F(Evaluate, AModelDoesNotDivergeFromItself) {
  const RandomModel model(seeded(1));
  const EvalResult r = run(model, &model, options(20));
  EXPECT_TRUE(r.has_base);
  EXPECT_EQ(r.divergence.mean, 0);
  EXPECT_EQ(r.divergence.max, 0);
  EXPECT_EQ(r.divergence.top1_agreement, 1);
  EXPECT_EQ(r.divergence.ln_ppl_ratio, 0);
  EXPECT_EQ(r.divergence.rms_delta_p, 0);
  EXPECT_EQ(r.perplexity.mean, r.base_perplexity.mean);
}

TEST_F(Evaluate, EqualLogitsHaveThePerplexityOfTheVocabulary) {
  RandomModelOptions o;
  o.head_scale = 0;
  const RandomModel model(o);
  const EvalResult r = run(model, nullptr, options(20));
  EXPECT_FALSE(r.has_base);
  EXPECT_NEAR(r.perplexity.mean, 50, 50 * kTolerance);
  EXPECT_NEAR(r.perplexity.stderr_, 0, 50 * kTolerance);
}

TEST_F(Evaluate, ThreadsChangeNothing) {
  const RandomModel candidate(seeded(1)), base(seeded(2));
  ThreadPool one(1), three(3);
  const EvalResult a = evaluate(candidate, &base, tokens_, options(20), one);
  const EvalResult b = evaluate(candidate, &base, tokens_, options(20), three);
  EXPECT_EQ(a.perplexity.mean, b.perplexity.mean);
  EXPECT_EQ(a.divergence.mean, b.divergence.mean);
  EXPECT_EQ(a.divergence.mean_ci95.low, b.divergence.mean_ci95.low);
  EXPECT_EQ(a.divergence.p99, b.divergence.p99);
}

TEST_F(Evaluate, ActInt8AppliesToTheModelItIsAskedFor) {
  RandomModelOptions o;
  o.type = "Q8_0";
  o.n_ff = 64;
  const RandomModel model(o);
  EvalOptions candidate_only = options(20), both = options(20);
  candidate_only.act_int8 = both.act_int8 = both.act_int8_base = true;
  EXPECT_GT(run(model, &model, candidate_only).divergence.mean, 0);
  EXPECT_EQ(run(model, &model, both).divergence.mean, 0);
}

TEST_F(Evaluate, ChunksAreLimitedAndContextsClipped) {
  RandomModel model(seeded(1));
  EvalOptions o = options(20);
  o.max_chunks = 2;
  EXPECT_EQ(run(model, nullptr, o).n_chunks, 2u);
  model.hparams_to_change().n_ctx = 16;
  const EvalResult clipped = run(model, nullptr, options(20));
  EXPECT_EQ(clipped.context, 16u);
  EXPECT_EQ(clipped.n_chunks, 6u);
  EXPECT_NE(joined(protocol_of(clipped, options(20)), "; ").find("chunks of 16"), std::string::npos);
}

TEST_F(Evaluate, RefusesWhatCannotBeMeasured) {
  const RandomModel model(seeded(1));
  EXPECT_EQ(code_of([&] { run(model, nullptr, options(101)); }), ExitCode::kUsage) << "text shorter than a chunk";
  EXPECT_EQ(code_of([&] { run(model, nullptr, options(2)); }), ExitCode::kUsage);

  RandomModelOptions larger;
  larger.n_vocab = 51;
  const RandomModel other_size(larger);
  EXPECT_EQ(code_of([&] { run(model, &other_size, options(20)); }), ExitCode::kBadInput);
  RandomModel other_words(seeded(1));
  other_words.vocabulary_to_change().tokens[7] = "changed";
  EXPECT_EQ(code_of([&] { run(model, &other_words, options(20)); }), ExitCode::kBadInput);

  RandomModel damaged(seeded(1));
  std::vector<float> head(50 * 32, 0.1f);
  head[40] = std::nanf("");
  damaged.add("damaged", {50, 32}, "F32", head);
  Graph graph = damaged.graph();
  graph.ops.back().weight = "damaged";
  damaged.set_graph(graph);
  EXPECT_EQ(code_of([&] { run(damaged, nullptr, options(20)); }), ExitCode::kNumeric);
  EXPECT_EQ(code_of([&] { run(model, &damaged, options(20)); }), ExitCode::kNumeric);
}

TEST_F(Evaluate, JsonHasTheKeysOthersRelyOn) {
  const RandomModel candidate(seeded(1)), base(seeded(2));
  const EvalResult r = run(candidate, &base, options(20));
  const Json json = to_json(r);
  EXPECT_EQ(json["perplexity"]["mean"], r.perplexity.mean);
  EXPECT_EQ(json["perplexity"]["stderr"], r.perplexity.stderr_);
  for (const char* key : {"mean", "ci95", "median", "p90", "p95", "p99", "p999", "max"})
    EXPECT_TRUE(json["divergence"].contains(key)) << key;
  EXPECT_EQ(json["divergence"]["ci95"].size(), 2u);
  for (const char* key : {"top1_agreement", "tokens", "tokens_per_second"}) EXPECT_TRUE(json[key].is_number()) << key;
  EXPECT_FALSE(to_json(run(candidate, nullptr, options(20))).contains("divergence"));
}

TEST_F(Evaluate, SpeedIsMeasuredBesideItsLimits) {
  const RandomModel model(seeded(1));
  SpeedOptions o;
  o.n_prefill = 16;
  o.n_decode = 4;
  o.repeats = 3;
  const SpeedResult r = measure_speed(model, o, pool_);
  EXPECT_GT(r.prefill_min, 0);
  EXPECT_LE(r.prefill_min, r.prefill_tps);
  EXPECT_LE(r.prefill_tps, r.prefill_max);
  EXPECT_GT(r.decode_min, 0);
  EXPECT_LE(r.decode_min, r.decode_tps);
  EXPECT_LE(r.decode_tps, r.decode_max);
  uint64_t bytes = 0;
  for (const ModelTensor& t : model.tensors())
    if (t.spec().shape.size() == 2) bytes += t.size_bytes();
  EXPECT_EQ(r.weight_bytes, bytes);
  // All matrices but the embedding are read for a token: 50 × 32 floats fewer.
  EXPECT_NEAR(r.decode_limit_tps, r.bandwidth_gb_s * 1e9 / static_cast<double>(bytes - 50 * 32 * 4),
              1e-6 * r.decode_limit_tps);
  // Layer 0, and q, k, v of layer 1: 32·(32 + 16 + 16), 32·32, 3·32·48; multiply-add = 2 operations.
  const double weights = 2 * 32 * 64 + 32 * 32 + 3 * 32 * 48;
  EXPECT_NEAR(r.prefill_limit_tps, r.gflops_f32 * 1e9 / 2 / weights, 1e-6 * r.prefill_limit_tps);
  EXPECT_GT(r.peak_rss_bytes, bytes);
  const Json json = to_json(r);
  EXPECT_EQ(json["prefill"]["tokens_per_second"], r.prefill_tps);
  EXPECT_EQ(json["decode"]["tokens_per_second"], r.decode_tps);
  EXPECT_TRUE(json["limits"].is_object());
}

}  // namespace
}  // namespace tsubu
