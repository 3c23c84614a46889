#include "engine/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "base/test_error_code.h"
#include "engine/act_rounding.h"
#include "engine/random_shapes.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

class EveryShape : public ::testing::TestWithParam<RandomShape> {};
INSTANTIATE_TEST_SUITE_P(Engine, EveryShape, ::testing::ValuesIn(random_shapes()), [](const auto& p) { return p.param.name; });

// Logits of all tokens, given in pieces of the listed sizes (the rest at once).
std::vector<float> run(const Model& model, const std::vector<TokenId>& tokens, const std::vector<size_t>& cuts = {},
                       int n_threads = 2, const EngineOptions& options = {}) {
  ThreadPool pool(n_threads);
  const auto engine = Engine::make(model, pool, options);
  const auto session = engine->new_session(tokens.size());
  const size_t n_vocab = engine->n_vocab();
  std::vector<float> logits(tokens.size() * n_vocab);
  size_t begin = 0;
  const auto feed = [&](size_t n) {
    engine->forward(*session, std::span(tokens).subspan(begin, n), n,
                    std::span(logits).subspan(begin * n_vocab, n * n_vocab));
    begin += n;
  };
  for (size_t n : cuts) feed(n);
  if (begin < tokens.size()) feed(tokens.size() - begin);
  EXPECT_EQ(session->n_past(), tokens.size());
  return logits;
}

bool same_bytes(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

TEST_P(EveryShape, IsTheGraphInDoubleUpToRounding) {
  const RandomModel model(GetParam().options);
  const std::vector<TokenId> tokens = random_tokens(37, 50, 3);
  const std::vector<float> got = run(model, tokens);
  const std::vector<double> want = reference_logits(model, tokens);
  ASSERT_EQ(got.size(), want.size());
  double square = 0, error_square = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    square += want[i] * want[i];
    error_square += (static_cast<double>(got[i]) - want[i]) * (static_cast<double>(got[i]) - want[i]);
  }
  // To first order every operation adds a relative error of at most (its sum's length + 16 roundings) units to what it
  // writes; the norm before each linear keeps errors from growing by more than the linears' own gain, which is about 1.
  const double unit = 0x1p-24, longest = std::max({GetParam().options.n_ff, GetParam().options.n_embd, 64u}) + 16;
  EXPECT_LE(std::sqrt(error_square),
            static_cast<double>(model.graph().ops.size()) * longest * unit * std::sqrt(square));
}

TEST_P(EveryShape, CutsOfTheSequenceChangeNothing) {
  const RandomModel model(GetParam().options);
  const std::vector<TokenId> tokens = random_tokens(37, 50, 4);
  const std::vector<float> whole = run(model, tokens);
  EXPECT_TRUE(same_bytes(run(model, tokens, std::vector<size_t>(37, 1)), whole)) << "one by one";
  EXPECT_TRUE(same_bytes(run(model, tokens, {5, 16, 1, 13}), whole)) << "in uneven pieces";
}

TEST_P(EveryShape, ThreadsChangeNothing) {
  const RandomModel model(GetParam().options);
  const std::vector<TokenId> tokens = random_tokens(70, 50, 5);
  EXPECT_TRUE(same_bytes(run(model, tokens, {}, 1), run(model, tokens, {}, 3)));
}

TEST_P(EveryShape, ActivationRoundingDoesNotDependOnCutsEither) {
  const RandomModel model(GetParam().options);
  const std::vector<TokenId> tokens = random_tokens(20, 50, 6);
  const EngineOptions options{.act_int8 = true, .kv_f16 = true};
  EXPECT_TRUE(same_bytes(run(model, tokens, {}, 2, options), run(model, tokens, {7, 1}, 1, options)));
}

// Rounding every factor to bfloat16 is a perturbation of at most 2^-8 of each product: logits move by about that, and they
// do move.
TEST(Engine, Bf16ProductsAreNearTheF32Ones) {
  const RandomModel model(random_options([](auto& o) { o.n_ff = 64; }));
  const std::vector<TokenId> tokens = random_tokens(100, 50, 3);
  const auto exact = run(model, tokens), rounded = run(model, tokens, {}, 2, {.bf16_products = true});
  EXPECT_TRUE(same_bytes(rounded, run(model, tokens, {}, 3, {.bf16_products = true})));
  EXPECT_FALSE(same_bytes(rounded, exact));
  double error = 0, size = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    error += std::pow(static_cast<double>(rounded[i] - exact[i]), 2);
    size += std::pow(static_cast<double>(exact[i]), 2);
  }
  EXPECT_LT(std::sqrt(error / size), 0x1p-5);
}

TEST(Engine, PromptsLongerThanABatchAreTheSameInPieces) {
  const RandomModel model(random_options([](auto& o) { o.n_layers = 1; }));
  const std::vector<TokenId> tokens = random_tokens(1030, 50, 7);
  EXPECT_TRUE(same_bytes(run(model, tokens), run(model, tokens, {3, 600, 40, 1})));
}

TEST(Engine, LogitsOfTheLastTokensAreThoseOfAll) {
  const RandomModel model(RandomModelOptions{});
  const std::vector<TokenId> tokens = random_tokens(700, 50, 8);
  const std::vector<float> all = run(model, tokens);
  ThreadPool pool(2);
  const auto engine = Engine::make(model, pool);
  for (size_t n_logits : {0, 1, 2, 187, 188, 189, 300, 699}) {
    const auto session = engine->new_session(tokens.size());
    std::vector<float> last(n_logits * engine->n_vocab());
    engine->forward(*session, tokens, n_logits, last);
    EXPECT_TRUE(same_bytes(last, {all.end() - static_cast<ptrdiff_t>(last.size()), all.end()})) << n_logits;
  }
}

TEST(Engine, TruncatedSessionsForget) {
  const RandomModel model(RandomModelOptions{});
  ThreadPool pool(1);
  const auto engine = Engine::make(model, pool);
  const auto session = engine->new_session(64);
  const std::vector<TokenId> tokens = random_tokens(30, 50, 9), other = random_tokens(30, 50, 10);
  std::vector<float> first(50), second(50);
  engine->forward(*session, tokens, 1, first);
  session->truncate(4);
  engine->forward(*session, other, 0, {});
  session->truncate(4);
  EXPECT_EQ(session->n_past(), 4u);
  engine->forward(*session, std::span(tokens).subspan(4), 1, second);
  EXPECT_TRUE(same_bytes(first, second));
}

TEST(Engine, RefusesWhatDoesNotFit) {
  const RandomModel model(RandomModelOptions{}), gpt2(random_options([](auto&o) {
    o.gpt2 = true;
    o.n_ctx = 8;
  }));
  ThreadPool pool(1);
  const auto engine = Engine::make(model, pool), other = Engine::make(gpt2, pool);
  const auto session = engine->new_session(4);
  std::vector<float> logits(50);
  const auto forward = [&](std::vector<TokenId> tokens, size_t n_logits) {
    return code_of([&] { engine->forward(*session, tokens, n_logits, logits); });
  };
  EXPECT_EQ(forward({50}, 1), ExitCode::kBadInput);
  EXPECT_EQ(forward({-1}, 1), ExitCode::kBadInput);
  EXPECT_EQ(forward({1, 2, 3, 4, 5}, 1), ExitCode::kUsage);
  EXPECT_EQ(forward({1, 2}, 2), ExitCode::kUsage) << "room for one token's logits";
  EXPECT_EQ(forward({1}, 2), ExitCode::kUsage);
  EXPECT_EQ(session->n_past(), 0u) << "a refused call leaves the session as it was";
  EXPECT_EQ(forward({1, 2, 3, 4}, 1), ExitCode::kDone);
  EXPECT_EQ(forward({1}, 1), ExitCode::kUsage);
  EXPECT_EQ(code_of([&] { other->forward(*session, std::vector<TokenId>{1}, 0, {}); }), ExitCode::kUsage);
  EXPECT_EQ(code_of([&] { session->truncate(9); }), ExitCode::kUsage);
  EXPECT_EQ(code_of([&] { other->new_session(9); }), ExitCode::kUsage) << "more than it has positions";
  EXPECT_EQ(code_of([&] { engine->new_session(SIZE_MAX / 2); }), ExitCode::kUsage);
}

TEST(Engine, RefusesGraphsThatDoNotFitTheirWeights) {
  const auto code = [](const std::function<void(RandomModel&, GraphBuilder&)>& make) {
    RandomModel model(RandomModelOptions{});
    GraphBuilder g;
    make(model, g);
    ThreadPool pool(1);
    return code_of([&] { Engine::make(model, pool); });
  };
  EXPECT_EQ(
      code([](auto& m, auto& g) { m.set_graph(g.finish(g.linear(g.embed("token_embd.weight", 32), "missing", 50))); }),
      ExitCode::kBadInput);
  EXPECT_EQ(code([](auto& m, auto& g) {
              m.set_graph(g.finish(g.linear(g.embed("token_embd.weight", 31), "output.weight", 50)));
            }),
            ExitCode::kBadInput);
  EXPECT_EQ(code([](auto& m, auto& g) {
              m.set_graph(g.finish(g.linear(g.embed("token_embd.weight", 32), "output.weight", 51)));
            }),
            ExitCode::kBadInput);
  EXPECT_EQ(code([](auto& m, auto& g) { m.set_graph(g.finish(g.embed("token_embd.weight", 32))); }),
            ExitCode::kUnsupported);
}

// embed → linear: what the linear multiplies is known.
struct OneLinear {
  explicit OneLinear(const std::string& type) : model(RandomModelOptions{}) {
    model.add("embedding", {10, 256}, "F32", 1.0f);
    model.add("head", {50, 256}, type, 0.1f);
    GraphBuilder g;
    model.set_graph(g.finish(g.linear(g.embed("embedding", 256), "head", 50)));
  }
  std::vector<float> expected(ActRounding rounding, TokenId token) const {
    std::vector<float> x(256), w(50 * 256), y(50);
    model.tensor("embedding").read_rows(static_cast<uint64_t>(token), 1, x.data());
    model.tensor("head").read_rows(0, 50, w.data());
    std::vector<float> rounded(256);
    round_activations(rounding, x.data(), rounded.data(), 256);
    for (size_t r = 0; r < 50; ++r) y[r] = kernels().dot(w.data() + r * 256, rounded.data(), 256);
    return y;
  }
  RandomModel model;
};

TEST(Engine, ActInt8RoundsInputsByTheTypeOfTheWeights) {
  const std::pair<const char*, ActRounding> cases[] = {{"F32", ActRounding::kNone},   {"F16", ActRounding::kF16},
                                                       {"BF16", ActRounding::kBf16},  {"Q8_0", ActRounding::kQ8_0},
                                                       {"Q4_1", ActRounding::kQ8_0},  {"Q4_K", ActRounding::kQ8_K},
                                                       {"IQ4_XS", ActRounding::kQ8_K}};
  for (const auto& [type, rounding] : cases) {
    const OneLinear one(type);
    const std::vector<float> got = run(one.model, {7}, {}, 1, {.act_int8 = true}), want = one.expected(rounding, 7);
    // Products of codes differ from products of rounded floats by roundings only: each of the 256 terms of a row by few
    // units of 2^-24, and the sum of their magnitudes is at most its root mean square times √256 · a few.
    const bool is_exact = rounding != ActRounding::kQ8_0 && rounding != ActRounding::kQ8_K;
    double square = 0, error = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      square += static_cast<double>(want[i]) * want[i];
      error += (static_cast<double>(got[i]) - want[i]) * (static_cast<double>(got[i]) - want[i]);
    }
    EXPECT_LE(std::sqrt(error / square), is_exact ? 0.0 : 256 * 0x1p-24) << type;
    EXPECT_TRUE(same_bytes(run(one.model, {7}), one.expected(ActRounding::kNone, 7))) << type;
    EXPECT_EQ(act_rounding_of(type_named(type)), rounding) << type;
  }
}

TEST(Engine, KvF16RoundsOnlyKeysAndValues) {
  const RandomModel model(RandomModelOptions{});
  const std::vector<TokenId> tokens = random_tokens(9, 50, 11);
  const std::vector<float> exact = run(model, tokens), rounded = run(model, tokens, {}, 1, {.kv_f16 = true});
  EXPECT_FALSE(same_bytes(exact, rounded));
  double square = 0, error = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    square += static_cast<double>(exact[i]) * exact[i];
    error += (static_cast<double>(exact[i]) - rounded[i]) * (static_cast<double>(exact[i]) - rounded[i]);
  }
  // A unit of f16 is 2^-11; scores of a few units in size turn it into weights that much, for two layers.
  EXPECT_LE(std::sqrt(error / square), 2 * 8 * 0x1p-11);
}

struct Recorder : LinearObserver {
  std::vector<std::string> names;
  std::vector<std::vector<float>> inputs;
  std::vector<size_t> n_tokens, n_cols;
  std::vector<float> first;
  void on_linear_input(const Op& op, const float* x, size_t n, size_t cols) override {
    if (names.empty()) first.assign(x, x + n * cols);
    names.push_back(op.weight);
    inputs.emplace_back(x, x + n * cols);
    n_tokens.push_back(n);
    n_cols.push_back(cols);
  }
};

TEST(Engine, ObserversSeeTheInputOfEveryLinearForAllTokens) {
  const RandomModel model(RandomModelOptions{});
  const std::vector<TokenId> tokens = random_tokens(12, 50, 12);
  Recorder recorder;
  ThreadPool pool(2);
  const auto engine = Engine::make(model, pool, {.observer = &recorder});
  std::vector<float> logits(2 * 50);
  engine->forward(*engine->new_session(12), tokens, 2, logits);
  size_t at = 0;
  for (const Op& op : model.graph().ops) {
    if (op.kind != OpKind::kLinear) continue;
    ASSERT_LT(at, recorder.names.size());
    EXPECT_EQ(recorder.names[at], op.weight);
    EXPECT_EQ(recorder.n_tokens[at], 12u) << "the head's too, whatever logits are wanted";
    EXPECT_EQ(recorder.n_cols[at], model.tensor(op.weight).n_cols());
    ++at;
  }
  EXPECT_EQ(at, recorder.names.size());
  // The first linear reads the normed embedding.
  std::vector<float> x(32), weight(32), y(32);
  model.tensor("blk.0.attn_norm.weight").read_rows(0, 1, weight.data());
  for (size_t t = 0; t < 12; ++t) {
    model.tensor("token_embd.weight").read_rows(static_cast<uint64_t>(tokens[t]), 1, x.data());
    kernels().rms_norm(x.data(), weight.data(), y.data(), 32, 1e-5f);
    EXPECT_TRUE(std::equal(y.begin(), y.end(), recorder.first.begin() + static_cast<ptrdiff_t>(t * 32)));
  }
  EXPECT_TRUE(same_bytes(logits,
                         [&] {
                           const std::vector<float> all = run(model, tokens);
                           return std::vector<float>(all.end() - 100, all.end());
                         }()))
      << "watching changes nothing";
}

TEST_P(EveryShape, BlockByBlockIsTheSame) {
  RandomModelOptions o = GetParam().options;
  o.n_layers = 3;
  const RandomModel model(o);
  const std::vector<TokenId> tokens = random_tokens(530, 50, 13);  // more than a batch
  ThreadPool pool(2);
  const auto observed = [&](const std::vector<size_t>& cuts) {
    Recorder recorder;
    const auto engine = Engine::make(model, pool, {.observer = &recorder});
    const auto session = engine->new_session(tokens.size());
    EXPECT_EQ(engine->n_blocks(), 3u);
    EXPECT_EQ(engine->stream_width(), 32u);
    if (cuts.empty()) engine->forward(*session, tokens, 0, {});
    std::vector<float> stream(tokens.size() * engine->stream_width());
    for (size_t i = 0; i + 1 < cuts.size(); ++i) {
      session->truncate(0);
      engine->forward_blocks(*session, tokens, cuts[i], cuts[i + 1], stream);
    }
    std::map<std::string, std::vector<float>> inputs;
    for (size_t i = 0; i < recorder.names.size(); ++i) {
      auto& to = inputs[recorder.names[i]];
      to.insert(to.end(), recorder.inputs[i].begin(), recorder.inputs[i].end());
    }
    return inputs;
  };
  const auto whole = observed({});
  EXPECT_EQ(whole.at(model.graph().ops.back().weight).size(), tokens.size() * 32);
  EXPECT_EQ(observed({0, 3}), whole);
  EXPECT_EQ(observed({0, 1, 2, 3}), whole);
  EXPECT_EQ(observed({0, 2, 3}), whole);
}

TEST(Engine, BlocksThatCannotBeRun) {
  const RandomModel model(RandomModelOptions{});
  ThreadPool pool(1);
  const auto engine = Engine::make(model, pool);
  const auto session = engine->new_session(4);
  std::vector<float> stream(4 * 32);
  const auto code = [&](size_t first, size_t last, size_t n_floats) {
    return code_of([&] {
      engine->forward_blocks(*session, std::vector<TokenId>{1, 2, 3, 4}, first, last, std::span(stream).first(n_floats));
    });
  };
  EXPECT_EQ(code(1, 1, 128), ExitCode::kUsage);
  EXPECT_EQ(code(0, 3, 128), ExitCode::kUsage);
  EXPECT_EQ(code(0, 1, 127), ExitCode::kUsage);
  EXPECT_EQ(code(0, 2, 0), ExitCode::kDone);
  const OneLinear no_blocks("F32");
  const auto other = Engine::make(no_blocks.model, pool);
  EXPECT_EQ(other->n_blocks(), 0u);
  EXPECT_EQ(code_of([&] {
              other->forward_blocks(*other->new_session(1), std::vector<TokenId>{1}, 0, 1, std::span(stream));
            }),
            ExitCode::kUnsupported);
}

}  // namespace
}  // namespace tsubu
