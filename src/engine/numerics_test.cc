// Linears in schemes: integer products against exact sums, floats against double, and what they must not depend on.
#include "engine/numerics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "engine/engine.h"
#include "engine/quantized_linear.h"
#include "engine/random_model.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr double kUnit = 0x1p-24;  // half a unit of the last place

Numerics schemes(const char* weights, const char* activations) {
  Numerics n;
  if (*weights) n.weights = parse_scheme(weights, SchemeUse::kWeights);
  if (*activations) n.activations = parse_scheme(activations, SchemeUse::kActivations);
  return n;
}

// A linear of odd sizes with a bias, and inputs with a token of zeros and a large column.
struct OneLinear {
  static constexpr size_t kRows = 69, kCols = 203, kTokens = 131, kLargeColumn = 77;

  explicit OneLinear(size_t n_tokens = kTokens) : model(RandomModelOptions{}), n(n_tokens) {
    model.add("w", {kRows, kCols}, "F32", 0.1f);
    model.add("b", {kRows}, "F32", 0.5f);
    source = std::make_unique<Linear>(model.tensor("w"), &model.tensor("b"));
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    x.resize(n * kCols);
    for (float& v : x) v = normal(random);
    for (size_t c = 0; c < kCols; ++c) x[c] = 0;
    for (size_t t = 1; t < n; ++t) x[t * kCols + kLargeColumn] = 9.0f + static_cast<float>(t) / 100;
    w.resize(kRows * kCols);
    model.tensor("w").read_rows(0, kRows, w.data());
    bias = read_vector(model.tensor("b"));
  }

  std::vector<float> run(const Numerics& numerics, int n_threads = 2) const {
    ThreadPool pool(n_threads);
    const QuantizedLinear linear(*source, "w", numerics, pool);
    QuantizedInputs inputs;
    inputs.assign(x.data(), n, kCols, numerics, linear.static_magnitude(), linear.as_codes(), pool);
    std::vector<QuantizedScratch> scratch(static_cast<size_t>(n_threads));
    std::vector<float> y(n * kRows);
    linear.run(inputs, y.data(), scratch, pool);
    return y;
  }

  RandomModel model;
  size_t n;
  std::unique_ptr<Linear> source;
  std::vector<float> x, w, bias;
};

// Codes and scales by the definition: the sets of values that share a scale, found value by value.
struct Rounded {
  std::vector<double> codes, scales;  // for each value
};

Rounded round_matrix(const std::vector<float>& values, size_t n_rows, size_t n_cols, const Scheme& scheme,
                     float static_magnitude, const std::vector<bool>& skip = {}) {
  const auto set_of = [&](size_t r, size_t c) -> std::pair<size_t, size_t> {
    switch (scheme.granularity) {
      case Granularity::kUnit:
      case Granularity::kTensor:
        return {0, 0};
      case Granularity::kChannel:
      case Granularity::kToken:
        return {r, 0};
      case Granularity::kGroup:
        return {r, c / scheme.size};
      case Granularity::kBlock:
        return {r / scheme.size, c / scheme.size};
    }
    return {};
  };
  std::map<std::pair<size_t, size_t>, float> amax;
  for (size_t r = 0; r < n_rows; ++r)
    for (size_t c = 0; c < n_cols; ++c)
      if (skip.empty() || !skip[c]) {
        float& m = amax[set_of(r, c)];
        m = std::max(m, std::abs(values[r * n_cols + c]));
      }
  Rounded result;
  for (size_t r = 0; r < n_rows; ++r)
    for (size_t c = 0; c < n_cols; ++c) {
      const float m = static_magnitude > 0 ? static_magnitude : amax[set_of(r, c)];
      const float scale = scheme.granularity == Granularity::kUnit ? 1.0f : m / scheme.format->largest();
      const bool none = scale == 0 || (!skip.empty() && skip[c]);
      const float v = values[r * n_cols + c];
      result.codes.push_back(none ? 0 : static_cast<double>(scheme.format->decode(scheme.format->encode(v / scale))));
      result.scales.push_back(static_cast<double>(scale));
    }
  return result;
}

struct Case {
  const char *weights, *activations;
  bool integers;  // multiplied as such
};

const Case kCases[] = {
    {"int8:channel", "int8:token", true},
    {"int8:tensor", "int8:tensor", true},
    {"int4:group=32", "int8:token", true},
    {"int4:group=40", "int4:group=20", true},
    {"int4:group=20", "int4:group=40", true},
    {"int8:block=64", "int6:group=64", true},
    {"int2:channel", "int3:token", true},
    {"int8:group=500", "int8:token", true},
    {"int4:group=30", "int8:group=40", false},
    {"fp8_e4m3:channel", "fp8_e4m3:token", false},
    {"fp8_e4m3:tensor", "fp8_e5m2:tensor", false},
    {"fp8_e4m3:block=64", "fp8_e4m3:group=64", false},
    {"fp4_e2m1:group=16", "fp8:unit", false},
    {"fp6_e3m2:unit", "fp6_e2m3:group=33", false},
    {"int4:channel", "", false},
    {"", "int8:token", false},
    {"fp8_e4m3:channel", "int8:token", false},
};

std::string name_of(const Case& c) { return std::string(c.weights) + " × " + c.activations; }

// y against the sum of the rounded values in double. Integers: each stretch of columns is exact, then the scales'
// product, the multiplication, one conversion of the sum and one addition a stretch and the bias are rounded: a few
// units of the terms' magnitudes. Floats: the bound of a sum of n products with two more roundings in each factor.
TEST(QuantizedLinear, IsTheSchemesInDouble) {
  const OneLinear one;
  constexpr size_t kRows = OneLinear::kRows, kCols = OneLinear::kCols;
  for (const Case& c : kCases) {
    Numerics numerics = schemes(c.weights, c.activations);
    numerics.static_magnitudes["w"] = 8.0f;  // below the largest: it saturates
    EXPECT_EQ(numerics.integer_products(kCols), c.integers) << name_of(c);
    const bool is_static = numerics.activations && numerics.activations->granularity == Granularity::kTensor;
    const Scheme exact = parse_scheme("fp8:unit", SchemeUse::kWeights);
    Rounded w = round_matrix(one.w, kRows, kCols, numerics.weights.value_or(exact), 0);
    Rounded x = round_matrix(one.x, one.n, kCols, numerics.activations.value_or(exact), is_static ? 8.0f : 0);
    if (!numerics.weights) w.codes.assign(one.w.begin(), one.w.end());
    if (!numerics.activations) x.codes.assign(one.x.begin(), one.x.end());
    for (const bool integers : {true, false}) {
      numerics.integer_kernels = integers;
      const std::vector<float> got = one.run(numerics);
      const double rounded = c.integers && integers ? 16 : 2.0 * kCols;
      for (size_t t = 0; t < one.n; ++t) {
        for (size_t r = 0; r < kRows; ++r) {
          double sum = static_cast<double>(one.bias[r]), magnitude = std::abs(sum);
          for (size_t k = 0; k < kCols; ++k) {
            const size_t i = r * kCols + k, j = t * kCols + k;
            const double product = w.codes[i] * w.scales[i] * x.codes[j] * x.scales[j];
            sum += product;
            magnitude += std::abs(product);
          }
          ASSERT_LE(std::abs(static_cast<double>(got[t * kRows + r]) - sum), rounded * kUnit * magnitude)
              << name_of(c) << (integers ? "" : " in float") << " at " << t << "," << r;
        }
      }
    }
  }
}

// With scales of one, products of integers are the sums of the codes themselves.
TEST(QuantizedLinear, IntegerSumsAreExact) {
  RandomModel model(RandomModelOptions{});
  constexpr size_t kRows = 5, kCols = 1031;
  std::mt19937 random(6);
  std::vector<float> w(kRows * kCols), x(3 * kCols);
  for (float& v : w) v = static_cast<float>(static_cast<int>(random() % 255) - 127);
  for (float& v : x) v = static_cast<float>(static_cast<int>(random() % 255) - 127);
  for (size_t r = 0; r < kRows; ++r) w[r * kCols] = 127;
  for (size_t t = 0; t < 3; ++t) x[t * kCols + 5] = -127;
  model.add("w", {kRows, kCols}, "F32", w);
  const Linear source(model.tensor("w"), nullptr);
  ThreadPool pool(1);
  const Numerics numerics = schemes("int8:channel", "int8:token");
  const QuantizedLinear linear(source, "w", numerics, pool);
  ASSERT_TRUE(linear.as_codes());
  QuantizedInputs inputs;
  inputs.assign(x.data(), 3, kCols, numerics, 0, true, pool);
  std::vector<QuantizedScratch> scratch(1);
  std::vector<float> y(3 * kRows);
  linear.run(inputs, y.data(), scratch, pool);
  for (size_t t = 0; t < 3; ++t)
    for (size_t r = 0; r < kRows; ++r) {
      double sum = 0;
      for (size_t c = 0; c < kCols; ++c)
        sum += static_cast<double>(w[r * kCols + c]) * static_cast<double>(x[t * kCols + c]);
      EXPECT_EQ(y[t * kRows + r], static_cast<float>(sum));
    }
}

TEST(QuantizedLinear, OutlierColumnsStayInFloat) {
  const OneLinear one;
  constexpr size_t kRows = OneLinear::kRows, kCols = OneLinear::kCols;
  for (const auto& [weights, activations] :
       {std::pair("int8:channel", "int8:token"), {"", "int4:token"}, {"fp8:channel", "fp8:token"}}) {
    Numerics numerics = schemes(weights, activations);
    numerics.outliers = 6.0f;
    std::vector<bool> outlier(kCols);
    for (size_t i = 0; i < one.x.size(); ++i)
      if (std::abs(one.x[i]) > 6.0f) outlier[i % kCols] = true;
    ASSERT_EQ(std::count(outlier.begin(), outlier.end(), true), 1) << "only the large one";
    const Rounded x = round_matrix(one.x, one.n, kCols, *numerics.activations, 0, outlier);
    Rounded w;
    if (numerics.weights) w = round_matrix(one.w, kRows, kCols, *numerics.weights, 0);
    const std::vector<float> got = one.run(numerics);
    for (size_t t = 0; t < one.n; ++t)
      for (size_t r = 0; r < kRows; ++r) {
        double sum = static_cast<double>(one.bias[r]), magnitude = std::abs(sum);
        for (size_t k = 0; k < kCols; ++k) {
          const size_t i = r * kCols + k, j = t * kCols + k;
          const double weight =
              numerics.weights && !outlier[k] ? w.codes[i] * w.scales[i] : static_cast<double>(one.w[i]);
          const double product = weight * (outlier[k] ? static_cast<double>(one.x[j]) : x.codes[j] * x.scales[j]);
          sum += product;
          magnitude += std::abs(product);
        }
        ASSERT_LE(std::abs(static_cast<double>(got[t * kRows + r]) - sum), 2 * kCols * kUnit * magnitude)
            << t << "," << r;
      }
  }
  // The large column made the scales of the others coarse: without it they are at least twice as fine.
  Numerics plain = schemes("", "int8:token"), split = plain;
  split.outliers = 6.0f;
  const std::vector<float> a = one.run(plain), b = one.run(split), exact = one.run(schemes("", ""));
  double error = 0, split_error = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    error += std::pow(static_cast<double>(a[i]) - static_cast<double>(exact[i]), 2);
    split_error += std::pow(static_cast<double>(b[i]) - static_cast<double>(exact[i]), 2);
  }
  EXPECT_LT(split_error, error / 4);
}

bool same_bytes(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(QuantizedLinear, ThreadsChangeNothing) {
  const OneLinear one;
  for (const Case& c : kCases) {
    Numerics numerics = schemes(c.weights, c.activations);
    numerics.static_magnitudes["w"] = 8.0f;
    EXPECT_TRUE(same_bytes(one.run(numerics, 1), one.run(numerics, 3))) << name_of(c);
    if (numerics.activations && numerics.activations->granularity == Granularity::kTensor) continue;
    numerics.outliers = 6.0f;
    EXPECT_TRUE(same_bytes(one.run(numerics, 1), one.run(numerics, 3))) << name_of(c);
  }
}

TEST(QuantizedLinear, WhatIsNotFiniteShows) {
  OneLinear one(3);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    one.x[OneLinear::kCols + 9] = bad;
    for (const Case& c : kCases) {
      if (!*c.activations) continue;
      Numerics numerics = schemes(c.weights, c.activations);
      numerics.static_magnitudes["w"] = 8.0f;
      const std::vector<float> y = one.run(numerics);
      EXPECT_TRUE(std::isnan(y[OneLinear::kRows])) << name_of(c);
      EXPECT_TRUE(std::isfinite(y[2 * OneLinear::kRows])) << "other tokens are unharmed: " << name_of(c);
    }
  }
}

TEST(QuantizedLinear, Refuses) {
  const OneLinear one(2);
  const auto code = [&](const Numerics& n) {
    try {
      one.run(n);
    } catch (const Error& e) {
      return e.code();
    }
    return ExitCode::kDone;
  };
  Numerics n = schemes("int8:channel", "int8:tensor");
  EXPECT_EQ(code(n), ExitCode::kUsage) << "no magnitude";
  n.static_magnitudes["w"] = 1;
  EXPECT_EQ(code(n), ExitCode::kDone);
  n.outliers = 6;
  EXPECT_EQ(code(n), ExitCode::kUsage) << "outliers with static scales";
  RandomModel model(RandomModelOptions{});
  model.add("nan", {1, 3}, "F32", {1.0f, std::numeric_limits<float>::quiet_NaN(), 2.0f});
  ThreadPool pool(1);
  try {
    QuantizedWeights(model.tensor("nan"), *schemes("int8", "").weights, pool);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kNumeric);
  }
}

TEST(QuantizedWeights, TakeAByteAWeightAndTheirScales) {
  const OneLinear one(1);
  ThreadPool pool(2);
  const auto bytes = [&](const char* scheme) {
    return QuantizedWeights(one.model.tensor("w"), parse_scheme(scheme, SchemeUse::kWeights), pool).size_bytes();
  };
  constexpr size_t kRows = OneLinear::kRows, kCodes = kRows * OneLinear::kCols;
  EXPECT_EQ(bytes("int8:channel"), kCodes + 4 * kRows);
  EXPECT_EQ(bytes("int4:group=32"), kCodes + 4 * kRows * 7);
}

// ---- the whole engine ----

std::vector<float> run(const Model& model, const std::vector<TokenId>& tokens, const Numerics& numerics,
                       const std::vector<size_t>& cuts = {}, int n_threads = 2) {
  ThreadPool pool(n_threads);
  EngineOptions options;
  options.numerics = numerics;
  const auto engine = Engine::make(model, pool, options);
  const auto session = engine->new_session(tokens.size());
  std::vector<float> logits(tokens.size() * engine->n_vocab());
  size_t begin = 0;
  const auto feed = [&](size_t n) {
    engine->forward(*session, std::span(tokens).subspan(begin, n), n,
                    std::span(logits).subspan(begin * engine->n_vocab(), n * engine->n_vocab()));
    begin += n;
  };
  for (size_t n : cuts) feed(n);
  if (begin < tokens.size()) feed(tokens.size() - begin);
  return logits;
}

// The graph in double with the linears' inputs and weights rounded as the schemes say. A value that f32 noise carries
// over the middle between two codes differs by a whole step: so most tokens agree within f32's noise, and each within
// what a few such steps do.
TEST(EngineNumerics, W8A8IsTheGraphInDouble) {
  // Of mixtures every expert is used: which ones are chosen would depend on noise.
  const auto every_expert = [](RandomModelOptions& o) { o.n_experts = o.n_used = 3; };
  const std::vector<RandomModelOptions> all = {
      {}, random_options([](auto& o) { o.gpt2 = true; }), random_options(every_expert), random_options([&](auto& o) {
        every_expert(o);
        o.kv_latent = 20;
        o.value_dim = 6;
        o.head_dim = 14;
        o.n_ff_shared = 24;
      })};
  for (const RandomModelOptions& options : all) {
    const RandomModel model(options);
    const auto is_float = [&](const Op& op) {
      return op.output == model.graph().logits || op.weight.find("ffn_gate_inp") != std::string::npos;
    };
    const std::string head = model.graph().ops.back().weight;
    const std::vector<TokenId> tokens = random_tokens(37, 50, 3);
    const auto round_row = [](std::vector<double>& row) {
      float amax = 0;
      for (const double v : row) amax = std::max(amax, std::abs(static_cast<float>(v)));
      const float scale = amax / 127.0f;
      for (double& v : row)
        v = scale == 0
                ? 0
                : std::nearbyint(static_cast<double>(static_cast<float>(v) / scale)) * static_cast<double>(scale);
    };
    LinearMeaning meaning;
    meaning.input = [&](const Op& op, std::vector<double>& x) {
      if (!is_float(op)) round_row(x);
    };
    meaning.weight_row = [&](const Op& op, std::vector<double>& row) {
      if (!is_float(op)) round_row(row);
    };
    const std::vector<double> want = reference_logits(model, tokens, meaning);
    for (const bool integers : {true, false}) {
      Numerics numerics = schemes("int8:channel", "int8:token");
      numerics.integer_kernels = integers;
      const std::vector<float> got = run(model, tokens, numerics);
      size_t n_close = 0;
      for (size_t t = 0; t < tokens.size(); ++t) {
        double square = 0, error = 0;
        for (size_t i = t * 50; i < (t + 1) * 50; ++i) {
          square += want[i] * want[i];
          error += std::pow(static_cast<double>(got[i]) - want[i], 2);
        }
        const double relative = std::sqrt(error / square);
        n_close += relative < 1e-5 ? 1 : 0;
        EXPECT_LT(relative, 4 * 0.5 / 127) << "token " << t;
      }
      EXPECT_GE(n_close, tokens.size() * 3 / 4) << "options " << (&options - all.data());
    }
  }
}

void cuts_and_threads_change_nothing(const RandomModelOptions& options) {
  const RandomModel model(options);
  const std::vector<TokenId> tokens = random_tokens(37, 50, 4);
  for (const Case& c : kCases) {
    Numerics numerics = schemes(c.weights, c.activations);
    numerics.with_head = true;
    for (const Op& op : model.graph().ops)
      if (is_linear(op)) numerics.static_magnitudes[op.weight] = 3.0f;
    const std::vector<float> whole = run(model, tokens, numerics);
    EXPECT_TRUE(same_bytes(whole, run(model, tokens, numerics, {5, 16, 1, 13}, 3))) << name_of(c);
    EXPECT_FALSE(same_bytes(whole, run(model, tokens, {}))) << name_of(c);
  }
}

TEST(EngineNumerics, CutsAndThreadsChangeNothing) { cuts_and_threads_change_nothing({}); }
TEST(EngineNumerics, CutsAndThreadsChangeNothingInMixtures) {
  cuts_and_threads_change_nothing(random_options([](auto& o) {
    o.n_experts = 4;
    o.kv_latent = 20;
    o.value_dim = 6;
    o.head_dim = 14;
  }));
}

TEST(EngineNumerics, TheHeadOnlyWhenAsked) {
  RandomModelOptions options;
  options.n_layers = 0;
  const RandomModel model(options);
  const std::vector<TokenId> tokens = random_tokens(9, 50, 5);
  Numerics numerics = schemes("int4:channel", "int4:token");
  EXPECT_TRUE(same_bytes(run(model, tokens, numerics), run(model, tokens, {})));
  numerics.with_head = true;
  EXPECT_FALSE(same_bytes(run(model, tokens, numerics), run(model, tokens, {})));
}

TEST(EngineNumerics, NotTogetherWithActInt8) {
  const RandomModel model(RandomModelOptions{});
  ThreadPool pool(1);
  EngineOptions options;
  options.act_int8 = true;
  options.numerics = schemes("int8", "int8");
  EXPECT_THROW(Engine::make(model, pool, options), Error);
}

TEST(EngineNumerics, SayWhatTheyAre) {
  EXPECT_EQ(schemes("int8", "int8").description(),
            "weights int8:channel, activations int8:token, linears of the blocks, integer products");
  EXPECT_EQ(schemes("fp8", "").description(), "weights fp8_e4m3:channel, linears of the blocks, products in float");
  Numerics n;
  EXPECT_FALSE(n.any());
  n.cache = parse_kv_formats("q8_0/q4_0");
  EXPECT_TRUE(n.any());
  EXPECT_EQ(n.description(), "keys Q8_0, values Q4_0");
}

}  // namespace
}  // namespace tsubu
