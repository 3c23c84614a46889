#include "gradient/backward.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "engine/linear.h"
#include "engine/random_shapes.h"
#include "gradient/loss.h"
#include "gradient/memory.h"
#include "gradient/weight_gradients.h"

namespace tsubu {
namespace {

// Weights that can be moved by small steps.
std::vector<RandomShape> float_shapes() {
  std::vector<RandomShape> shapes = random_shapes();
  std::erase_if(shapes, [](const RandomShape& s) { return s.options.type != "F32"; });
  return shapes;
}

class EveryShape : public ::testing::TestWithParam<RandomShape> {};
INSTANTIATE_TEST_SUITE_P(Gradient, EveryShape, ::testing::ValuesIn(float_shapes()), [](const auto& p) { return p.param.name; });

constexpr size_t kTokens = 61, kFirst = 5;  // more than a block of the attention's gradient; an odd number
constexpr uint32_t kVocab = 50;

std::vector<TokenId> targets_of(const std::vector<TokenId>& tokens) {
  std::vector<TokenId> targets(tokens.begin() + 1, tokens.end());
  targets.push_back(-1);
  return targets;
}

// The same loss in double, from the definition of every operation.
double reference_loss(const Model& model, const std::vector<TokenId>& tokens) {
  const std::vector<double> logits = reference_logits(model, tokens);
  const std::vector<TokenId> targets = targets_of(tokens);
  double loss = 0;
  for (size_t t = kFirst; t + 1 < tokens.size(); ++t) {
    const double* row = logits.data() + t * kVocab;
    double sum = 0;
    for (size_t i = 0; i < kVocab; ++i) sum += std::exp(row[i]);
    loss += std::log(sum) - row[static_cast<size_t>(targets[t])];
  }
  return loss;
}

struct Result {
  double loss = 0;
  std::map<std::string, AlignedVector<float>> gradients;
};

Result gradients_of(const Model& model, const std::vector<TokenId>& tokens, int n_threads = 2, int n_windows = 1) {
  ThreadPool pool(n_threads);
  Backward backward(model, pool);
  WeightGradients sums(model, pool);
  const std::vector<TokenId> targets = targets_of(tokens);
  Result result;
  for (int w = 0; w < n_windows; ++w)
    result.loss += backward.run(
        tokens, kFirst,
        [&](size_t first, size_t n, float* logits) {
          return cross_entropy(std::span(targets).subspan(first, n), 1, logits, kVocab, pool);
        },
        sums);
  result.gradients = sums.all();
  return result;
}

// The tensor's floats, to change them: the model of the test owns their bytes.
std::span<float> floats_of(const Model& model, const std::string& name) {
  const auto bytes = model.tensor(name).raw();
  return {reinterpret_cast<float*>(const_cast<std::byte*>(bytes.data())), bytes.size() / sizeof(float)};
}

// Along random directions v of each tensor: g · v against (L(w + hv) - L(w - hv)) / 2h in double. What differs is the
// difference quotient's own error, of order h² (h where a ReLU's input changes sign), and the gradient's f32 rounding: a
// share of |g| |v|. Which experts are chosen does not change on the way.
TEST_P(EveryShape, AgreesWithFiniteDifferencesInDouble) {
  const RandomModel model(GetParam().options);
  const std::vector<TokenId> tokens = random_tokens(kTokens, kVocab, 3);
  const Result result = gradients_of(model, tokens);
  EXPECT_NEAR(result.loss, reference_loss(model, tokens), 1e-4 * result.loss);
  // What only chooses experts has none.
  ASSERT_EQ(result.gradients.size(), static_cast<size_t>(std::count_if(model.tensors().begin(), model.tensors().end(), [](const ModelTensor& t) {
              return !t.name().ends_with("exp_probs_b.bias");
            })));
  for (const auto& [name, gradient] : result.gradients) {
    const std::span<float> w = floats_of(model, name);
    ASSERT_EQ(gradient.size(), w.size()) << name;
    const std::vector<float> kept(w.begin(), w.end());
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    double g_norm = 0;
    for (float g : gradient) g_norm += static_cast<double>(g) * static_cast<double>(g);
    g_norm = std::sqrt(g_norm);
    ASSERT_GT(g_norm, 0) << name;
    for (int repeat = 0; repeat < 2; ++repeat) {
      // Half along the gradient, so that the product is no small difference; half at random.
      std::vector<double> v(w.size());
      double v_norm = 0;
      for (size_t i = 0; i < v.size(); ++i) {
        v[i] = static_cast<double>(normal(random)) / std::sqrt(static_cast<double>(v.size())) +
               static_cast<double>(gradient[i]) / g_norm;
        v_norm += v[i] * v[i];
      }
      v_norm = std::sqrt(v_norm);
      constexpr double kStep = 1e-4;  // few inputs of a ReLU change sign
      double loss[2], along = 0;
      for (const int side : {0, 1}) {
        const double h = side == 0 ? kStep : -kStep;
        for (size_t i = 0; i < v.size(); ++i) w[i] = kept[i] + static_cast<float>(h * v[i]);
        // The step as it was taken, after rounding to f32.
        for (size_t i = 0; i < v.size(); ++i)
          along += (side == 0 ? 1 : -1) * static_cast<double>(gradient[i]) *
                   (static_cast<double>(w[i]) - static_cast<double>(kept[i])) / (2 * kStep);
        loss[side] = reference_loss(model, tokens);
      }
      std::copy(kept.begin(), kept.end(), w.begin());
      const double quotient = (loss[0] - loss[1]) / (2 * kStep);
      EXPECT_NEAR(along, quotient, 2e-4 * g_norm * v_norm) << name;
    }
  }
}

TEST_P(EveryShape, DoesNotDependOnThreads) {
  const RandomModel model(GetParam().options);
  const std::vector<TokenId> tokens = random_tokens(kTokens, kVocab, 3);
  const Result one = gradients_of(model, tokens, 1), three = gradients_of(model, tokens, 3);
  EXPECT_EQ(one.loss, three.loss);
  for (const auto& [name, gradient] : one.gradients)
    EXPECT_EQ(std::memcmp(gradient.data(), three.gradients.at(name).data(), gradient.size() * sizeof(float)), 0) << name;
}

TEST(Backward, AddsWindowsUp) {
  const RandomModel model{RandomModelOptions()};
  const std::vector<TokenId> tokens = random_tokens(kTokens, kVocab, 3);
  const Result once = gradients_of(model, tokens), twice = gradients_of(model, tokens, 2, 2);
  for (const auto& [name, gradient] : once.gradients) {
    float most = 0;
    for (float g : gradient) most = std::max(most, std::fabs(g));
    // Tables and biases are summed token by token: as many roundings as tokens.
    for (size_t i = 0; i < gradient.size(); ++i)
      ASSERT_NEAR(2 * gradient[i], twice.gradients.at(name)[i], 2 * kTokens * 0x1p-24f * 4 * most) << name;
  }
}

TEST_P(EveryShape, KeptValuesGiveTheSameBits) {
  const RandomModel model(GetParam().options);
  const std::vector<TokenId> tokens = random_tokens(kTokens, kVocab, 3), targets = targets_of(tokens);
  ThreadPool pool(2);
  Backward backward(model, pool);
  backward.keep_values(uint64_t{1} << 30);
  WeightGradients sums(model, pool);
  const double loss = backward.run(
      tokens, kFirst,
      [&](size_t first, size_t n, float* logits) {
        return cross_entropy(std::span(targets).subspan(first, n), 1, logits, kVocab, pool);
      },
      sums);
  const Result computed_twice = gradients_of(model, tokens);
  EXPECT_EQ(loss, computed_twice.loss);
  EXPECT_EQ(sums.all(), computed_twice.gradients);
}

// One window after another takes the same memory, and kept values are about all of it: the logits' buffer, the largest,
// is not lent to what is small.
TEST(Backward, MemoryIsThatOfTheValues) {
  const RandomModel model(random_options([](auto& o) {
    o.n_layers = 6;
    o.n_vocab = 5000;
  }));
  const std::vector<TokenId> tokens = random_tokens(kTokens, 5000, 3), targets = targets_of(tokens);
  ThreadPool pool(1);
  Backward backward(model, pool);
  backward.keep_values(uint64_t{1} << 30);
  WeightGradients sums(model, pool);
  const auto run = [&] {
    backward.run(
        tokens, 0,
        [&](size_t first, size_t n, float* logits) {
          return cross_entropy(std::span(targets).subspan(first, n), 1, logits, 5000, pool);
        },
        sums);
    return backward.scratch_bytes();
  };
  uint64_t widths = 0;
  for (uint32_t w : model.graph().widths) widths += w;
  const uint64_t values = widths * kTokens * sizeof(float);
  run();
  const uint64_t second = run();
  for (int i = 0; i < 5; ++i) run();
  EXPECT_EQ(run(), second);
  // Values with the logits, gradients of a block, and the transposed head and logits.
  EXPECT_LT(second, 2 * values + 3 * uint64_t{5000} * (kTokens + 48) * sizeof(float));
}

// Every input of a linear and the gradient of what it gives, for each token in turn.
class Recorder : public GradientSink {
 public:
  void on_linear(const Op& op, const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows) override {
    keep(op.weight, x, g, n_tokens, n_cols, n_rows);
  }
  void on_expert(const Op& op, size_t expert, const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows) override {
    keep(op.weight + "." + std::to_string(expert), x, g, n_tokens, n_cols, n_rows);
  }
  std::map<std::string, std::vector<float>> inputs, gradients;

 private:
  void keep(const std::string& name, const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows) {
    inputs[name].insert(inputs[name].end(), x, x + n_tokens * n_cols);
    gradients[name].insert(gradients[name].end(), g, g + n_tokens * n_rows);
  }
};

// Sequences in one window are those of windows of their own: losses of tokens, inputs of linears and gradients of their outputs to
// the bit; sums over tokens up to the order of at most 76 additions in f32: 76 · 2^-24 of the terms' magnitudes, which may be up
// to 20 times their sum's.
TEST_P(EveryShape, SequencesInOneWindowDoNotSeeEachOther) {
  const RandomModel model(GetParam().options);
  const std::vector<size_t> lengths = {50, 1, 7, 18};
  std::vector<TokenId> tokens;
  std::vector<uint32_t> starts;
  for (size_t i = 0; i < lengths.size(); ++i) {
    const auto sequence = random_tokens(lengths[i], kVocab, 20 + static_cast<uint32_t>(i));
    starts.push_back(static_cast<uint32_t>(tokens.size()));
    tokens.insert(tokens.end(), sequence.begin(), sequence.end());
  }
  ThreadPool pool(2);
  Backward backward(model, pool);
  const auto pass = [&](std::span<const TokenId> window, std::span<const uint32_t> begins, std::vector<float>& logits, GradientSink& sink) {
    std::vector<TokenId> targets;
    for (size_t t = 0; t < window.size(); ++t) targets.push_back((window[t] + 1) % static_cast<TokenId>(kVocab));
    return backward.run(
        window, 0,
        [&](size_t first, size_t n, float* rows) {
          logits.insert(logits.end(), rows, rows + n * kVocab);
          return cross_entropy(std::span(targets).subspan(first, n), 1, rows, kVocab, pool);
        },
        sink, begins);
  };
  std::vector<float> packed_logits, logits;
  Recorder packed, alone;
  WeightGradients packed_sums(model, pool), sums(model, pool);
  const double packed_loss = pass(tokens, starts, packed_logits, packed);
  std::vector<float> ignored;
  pass(tokens, starts, ignored, packed_sums);
  double loss = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    const auto sequence = std::span(tokens).subspan(starts[i], lengths[i]);
    loss += pass(sequence, {}, logits, alone);
    pass(sequence, {}, ignored, sums);
  }
  EXPECT_EQ(packed_logits, logits);
  EXPECT_NEAR(packed_loss, loss, 1e-12 * loss);  // the order of sums in double
  EXPECT_EQ(packed.inputs, alone.inputs);
  EXPECT_EQ(packed.gradients, alone.gradients);
  for (const auto& [name, sum] : sums.all()) {
    const auto& other = packed_sums.all().at(name);
    double norm = 0, difference = 0;
    for (size_t i = 0; i < sum.size(); ++i) {
      norm += static_cast<double>(sum[i]) * static_cast<double>(sum[i]);
      difference += std::pow(static_cast<double>(sum[i]) - static_cast<double>(other[i]), 2);
    }
    EXPECT_LE(std::sqrt(difference), 20 * 76 * 0x1p-24 * std::sqrt(norm)) << name;
  }
  std::vector<float> whole;
  pass(tokens, {}, whole, packed);
  EXPECT_NE(whole, packed_logits);
  for (const std::vector<uint32_t>& bad : {std::vector<uint32_t>{1}, {0, 5, 5}, {0, 76}, {0, 9, 3}})
    EXPECT_THROW(pass(tokens, bad, ignored, packed), Error);
}

// What is predicted is what is taken at most, whether or not values are kept; windows of other lengths take the same buffers.
TEST_P(EveryShape, TakesNoMoreMemoryThanPredicted) {
  const RandomModel model(GetParam().options);
  for (const int n_threads : {1, 3})
    for (const uint64_t kept : {uint64_t{0}, uint64_t{1} << 30}) {
      ThreadPool pool(n_threads);
      Backward backward(model, pool);
      backward.keep_values(kept);
      backward.reserve(kTokens);
      Recorder sink;
      const auto pass = [&](size_t n, bool goes_back) {
        const std::vector<TokenId> tokens = random_tokens(n, kVocab, 3), targets = targets_of(tokens);
        const LogitLoss loss = [&](size_t first, size_t count, float* logits) {
          return cross_entropy(std::span(targets).subspan(first, count), 1, logits, kVocab, pool);
        };
        goes_back ? backward.run(tokens, 0, loss, sink) : backward.forward(tokens, 0, loss);
      };
      pass(kTokens / 3, false);
      EXPECT_LE(backward.scratch_bytes(), predicted_backward_bytes(model, {kTokens, n_threads, kept, false}));
      for (const size_t n : {kTokens / 2, size_t{2}, kTokens, size_t{17}, kTokens}) {
        pass(n, true);
        pass(n, false);
      }
      EXPECT_LE(backward.scratch_bytes(), predicted_backward_bytes(model, {kTokens, n_threads, kept}));
      backward.release();
      EXPECT_LT(backward.scratch_bytes(), predicted_backward_bytes(model, {kTokens, n_threads, kept, false}));
    }
}

// Products of bfloat16 numbers: each factor is off by 2^-8 of itself at most (half of the last of its eight
// bits), the sums are f32.
TEST(LinearGradient, MultipliesBfloat16) {
  ThreadPool pool(2);
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (const auto& [n_tokens, n_cols, n_rows] : {std::array<size_t, 3>{61, 48, 50}, {256, 160, 200}, {1, 16, 7}}) {
    RandomModel model{RandomModelOptions()};
    model.add("w", {n_rows, n_cols}, "F32", 1);
    const ModelTensor& weight = model.tensor("w");
    AlignedVector<float> x(n_tokens * n_cols), g(n_tokens * n_rows), gx(x.size()), gx_bf16(x.size()), gw(n_rows * n_cols),
        gw_bf16(gw.size());
    for (float& v : x) v = normal(random);
    for (float& v : g) v = normal(random);
    LinearGradient exact, rounded(true);
    exact.input(weight, g.data(), n_tokens, gx.data(), pool);
    rounded.input(weight, g.data(), n_tokens, gx_bf16.data(), pool);
    exact.weight(x.data(), g.data(), n_tokens, n_cols, n_rows, gw.data(), pool);
    rounded.weight(x.data(), g.data(), n_tokens, n_cols, n_rows, gw_bf16.data(), pool);
    const std::vector<float> w = read_vector(weight);
    const double bound = 2 * 0x1p-8 + 0x1p-16 + 2 * static_cast<double>(std::max(n_rows, n_tokens)) * 0x1p-24;
    size_t n_other = 0;
    for (size_t t = 0; t < n_tokens; ++t)
      for (size_t c = 0; c < n_cols; ++c) {
        double size = 0;
        for (size_t r = 0; r < n_rows; ++r) size += std::fabs(static_cast<double>(g[t * n_rows + r] * w[r * n_cols + c]));
        ASSERT_NEAR(gx[t * n_cols + c], gx_bf16[t * n_cols + c], bound * size);
        n_other += gx[t * n_cols + c] != gx_bf16[t * n_cols + c];
      }
    for (size_t r = 0; r < n_rows; ++r)
      for (size_t c = 0; c < n_cols; ++c) {
        double size = 0;
        for (size_t t = 0; t < n_tokens; ++t) size += std::fabs(static_cast<double>(g[t * n_rows + r] * x[t * n_cols + c]));
        ASSERT_NEAR(gw[r * n_cols + c], gw_bf16[r * n_cols + c], bound * size);
      }
    EXPECT_GT(n_other, 0u);
    // Another number of threads, the same bits.
    ThreadPool one(1);
    AlignedVector<float> again(x.size()), again_w(gw.size());
    rounded.input(weight, g.data(), n_tokens, again.data(), one);
    rounded.weight(x.data(), g.data(), n_tokens, n_cols, n_rows, again_w.data(), one);
    EXPECT_EQ(again, gx_bf16);
    EXPECT_EQ(again_w, gw_bf16);
  }
}

TEST(Backward, ForwardHasTheSameLoss) {
  const RandomModel model{RandomModelOptions()};
  const std::vector<TokenId> tokens = random_tokens(kTokens, kVocab, 3), targets = targets_of(tokens);
  ThreadPool pool(2);
  Backward backward(model, pool);
  const double loss = backward.forward(tokens, kFirst, [&](size_t first, size_t n, float* logits) {
    return cross_entropy(std::span(targets).subspan(first, n), 1, logits, kVocab, pool);
  });
  EXPECT_EQ(loss, gradients_of(model, tokens).loss);
  EXPECT_THROW(backward.forward(tokens, kTokens, [](size_t, size_t, float*) { return 0.0; }), Error);
}

TEST(Loss, DivergenceIsZeroAtItsBaseAndItsGradientTheDifferenceOfProbabilities) {
  ThreadPool pool(2);
  const std::vector<float> base = {1, 2, 3, 0, 0, 5}, other = {3, 2, 1, 0, 1, 0};
  std::vector<float> logits = base;
  EXPECT_NEAR(divergence_loss(base, 1, logits.data(), 3, pool), 0, 1e-6);
  for (float g : logits) EXPECT_NEAR(g, 0, 1e-6);
  logits = other;
  const double loss = divergence_loss(base, 2, logits.data(), 3, pool);
  double want = 0;
  for (size_t r = 0; r < 2; ++r) {
    double sums[2] = {0, 0};
    for (size_t i = 0; i < 3; ++i) {
      sums[0] += std::exp(static_cast<double>(base[3 * r + i]));
      sums[1] += std::exp(static_cast<double>(other[3 * r + i]));
    }
    for (size_t i = 0; i < 3; ++i) {
      const double p = std::exp(static_cast<double>(base[3 * r + i])) / sums[0];
      const double q = std::exp(static_cast<double>(other[3 * r + i])) / sums[1];
      want += p * std::log(p / q);
      EXPECT_NEAR(static_cast<double>(logits[3 * r + i]), 2 * (q - p), 1e-6);
    }
  }
  EXPECT_NEAR(loss, want, 1e-5);
}

TEST(Loss, SamplesFollowTheProbabilities) {
  ThreadPool pool(2);
  constexpr size_t kRows = 20000;
  std::vector<float> logits;
  for (size_t r = 0; r < kRows; ++r)
    for (float p : {0.5f, 0.3f, 0.2f}) logits.push_back(std::log(p));
  const std::vector<TokenId> targets = sample_targets(logits.data(), kRows, 3, 1, 0, 0, pool);
  double counts[3] = {};
  for (TokenId t : targets) ++counts[static_cast<size_t>(t)];
  // Five standard deviations of a binomial count.
  for (size_t i = 0; i < 3; ++i) {
    const double p = std::exp(static_cast<double>(logits[i]));
    EXPECT_NEAR(counts[i], kRows * p, 5 * std::sqrt(kRows * p * (1 - p)));
  }
  // The same tokens whatever the piece they come in, others with another seed.
  const std::vector<TokenId> rest = sample_targets(logits.data() + 3 * 7, 100, 3, 1, 0, 7, pool);
  EXPECT_TRUE(std::equal(rest.begin(), rest.end(), targets.begin() + 7));
  EXPECT_NE(sample_targets(logits.data(), 100, 3, 2, 0, 0, pool), std::vector<TokenId>(targets.begin(), targets.begin() + 100));
}

}  // namespace
}  // namespace tsubu
