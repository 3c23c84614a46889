#include "tune/lora.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <random>

#include "base/error.h"
#include "engine/random_shapes.h"
#include "gradient/loss.h"
#include "gradient/memory.h"
#include "tune/loftq.h"

namespace tsubu {
namespace {

constexpr size_t kTokens = 61;
constexpr uint32_t kVocab = 50;

std::vector<RandomShape> float_shapes() {
  std::vector<RandomShape> shapes = random_shapes();
  std::erase_if(shapes, [](const RandomShape& s) { return s.options.type != "F32"; });
  return shapes;
}

// Both halves random, so that neither gradient is zero.
Adapter random_adapter(const Model& model, size_t rank) {
  Adapter adapter = fresh_adapter(model, adaptable_tensors(model), rank, 2 * static_cast<double>(rank), 1);
  std::mt19937 random(5);
  for (auto& [name, r] : adapter.tensors) {
    std::normal_distribution<float> normal(0, 0.3f / std::sqrt(static_cast<float>(rank)));
    for (float& v : r->b) v = normal(random);
  }
  return adapter;
}

class EveryShape : public ::testing::TestWithParam<RandomShape> {};
INSTANTIATE_TEST_SUITE_P(Lora, EveryShape, ::testing::ValuesIn(float_shapes()), [](const auto& p) { return p.param.name; });

double reference_loss(const Model& model, const TuneWindow& w) {
  const std::vector<double> logits = reference_logits(model, w.tokens);
  double loss = 0;
  for (size_t t = 0; t < w.tokens.size(); ++t) {
    if (w.targets[t] < 0) continue;
    const double* row = logits.data() + t * kVocab;
    double sum = 0;
    for (size_t i = 0; i < kVocab; ++i) sum += std::exp(row[i]);
    loss += std::log(sum) - row[static_cast<size_t>(w.targets[t])];
  }
  return loss;
}

// Along directions v of A and of B: g · v against (L(+hv) - L(-hv)) / 2h of the loss in double, as the test of the whole gradient
// does (gradient/backward_test.cc): what differs is the quotient's own error and f32's rounding, a share of |g| |v|. has_kinks: where
// inputs of a ReLU change sign on the way, the slope lies between those of the two sides. has_steps: a router that changes its mind
// between the two sides leaves a step, not a slope.
void expect_slopes(Adapter& adapter, const LoraGradient& gradient, const std::function<double()>& loss, bool has_kinks, bool has_steps) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  size_t n_directions = 0, n_steps = 0;
  for (const auto& [name, sums] : gradient.all()) {
    LowRank& r = *adapter.tensors.at(name);
    for (auto [values, g] : {std::pair{&r.a, &sums.a}, std::pair{&r.b, &sums.b}}) {
      const std::vector<float> kept = *values;
      double g_norm = 0, v_norm = 0, along = 0, losses[2];
      for (float x : *g) g_norm += static_cast<double>(x) * static_cast<double>(x);
      g_norm = std::sqrt(g_norm);
      ASSERT_GT(g_norm, 0) << name;
      std::vector<double> v(kept.size());
      for (size_t i = 0; i < v.size(); ++i) {
        v[i] = static_cast<double>(normal(random)) / std::sqrt(static_cast<double>(v.size())) + static_cast<double>((*g)[i]) / g_norm;
        v_norm += v[i] * v[i];
      }
      v_norm = std::sqrt(v_norm);
      constexpr double kStep = 1e-4;
      for (const int side : {0, 1}) {
        for (size_t i = 0; i < v.size(); ++i) {
          (*values)[i] = kept[i] + static_cast<float>((side == 0 ? kStep : -kStep) * v[i]);
          along += (side == 0 ? 1 : -1) * static_cast<double>((*g)[i]) * (static_cast<double>((*values)[i]) - static_cast<double>(kept[i])) /
                   (2 * kStep);
        }
        losses[side] = loss();
      }
      *values = kept;
      // The rows that the reference reads are rounded to f32: half a unit of each weight, at random.
      const double sides = std::fabs(losses[0] - 2 * loss() + losses[1]) / kStep;
      ++n_directions;
      if (has_steps && sides > g_norm * v_norm) {
        ++n_steps;
        continue;
      }
      EXPECT_NEAR(along, (losses[0] - losses[1]) / (2 * kStep), 1e-3 * g_norm * v_norm + (has_kinks ? sides / 2 : 0))
          << name << (values == &r.a ? " A" : " B");
    }
  }
  EXPECT_LE(4 * n_steps, n_directions);
}

TEST_P(EveryShape, GradientsAgreeWithFiniteDifferencesInDouble) {
  RandomModel model(GetParam().options);
  Adapter adapter = random_adapter(model, 3);
  ASSERT_FALSE(adapter.tensors.empty());
  add_adapter(model, adapter);
  TuneWindow w = text_windows(std::vector<std::vector<TokenId>>{random_tokens(kTokens, kVocab, 3)}).front();
  for (size_t t = 0; t < kTokens; t += 4) w.targets[t] = -1;
  ThreadPool pool(2);
  Backward backward(model, pool);
  LoraGradient gradient(adapter, pool);
  const double loss = backward.run(
      w.tokens, 1,
      [&](size_t first, size_t n, float* logits) { return cross_entropy(std::span(w.targets).subspan(first, n), 1, logits, kVocab, pool); },
      gradient);
  EXPECT_NEAR(loss, reference_loss(model, w), 1e-4 * loss);
  expect_slopes(adapter, gradient, [&] { return reference_loss(model, w); }, GetParam().options.activation == OpKind::kRelu,
                GetParam().options.n_experts > 0);
}

// The same of experts' matrices: a stack's parts are copied into the model that the loss is of, so it is made anew for each.
TEST(Lora, ExpertsGradientsAgreeWithFiniteDifferencesInDouble) {
  const RandomModelOptions options = random_options([](RandomModelOptions& o) { o.n_experts = 4; });
  RandomModel model(options);
  const std::vector<std::string> names = adaptable_experts(model);
  ASSERT_EQ(names.size(), 6u);
  Adapter adapter = fresh_adapter(model, names, 3, 6, 1);
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (auto& [name, r] : adapter.tensors)
    for (float& v : r->b) v = 0.2f * normal(random);
  const TuneWindow w = text_windows(std::vector<std::vector<TokenId>>{random_tokens(kTokens, kVocab, 3)}).front();
  const auto loss_of = [&] {
    RandomModel adapted(options);
    add_adapter(adapted, adapter);
    return reference_loss(adapted, w);
  };
  RandomModel adapted(options);
  add_adapter(adapted, adapter);
  ThreadPool pool(2);
  Backward backward(adapted, pool);
  LoraGradient gradient(adapter, pool);
  const double loss = backward.run(
      w.tokens, 0,
      [&](size_t first, size_t n, float* logits) { return cross_entropy(std::span(w.targets).subspan(first, n), 1, logits, kVocab, pool); },
      gradient);
  EXPECT_NEAR(loss, loss_of(), 1e-4 * loss);
  expect_slopes(adapter, gradient, loss_of, false, true);
}

struct Training {
  explicit Training(const std::string& type = "F32", uint32_t n_experts = 0) : model(random_options([&](auto& o) {
    o.type = type;
    o.n_experts = n_experts;
    if (type != "F32") o.n_ff = 64;
  })) {
    std::vector<std::vector<TokenId>> chunks;
    for (uint32_t i = 0; i < 40; ++i) chunks.push_back(random_tokens(24, kVocab, 100 + i % 8));  // eight texts, again and again
    windows = text_windows(chunks);
    options.rank = 4;
    options.alpha = 8;
    options.rate = 0.01;
    options.n_tokens = 24 * 120;
    options.tokens_per_step = 24 * 4;
    options.held_out = 0.2;
    options.n_judgements = 3;
  }
  LoraResult run(int n_threads) const {
    ThreadPool pool(n_threads);
    return tune_lora(model, windows, options, pool);
  }
  RandomModel model;
  std::vector<TuneWindow> windows;
  LoraOptions options;
};

void expect_same(const LoraResult& a, const LoraResult& b) {
  ASSERT_EQ(a.adapter.tensors.size(), b.adapter.tensors.size());
  for (const auto& [name, r] : a.adapter.tensors) {
    const LowRank& other = *b.adapter.tensors.at(name);
    EXPECT_EQ(r->a, other.a) << name;
    EXPECT_EQ(r->b, other.b) << name;
  }
  ASSERT_EQ(a.curve.size(), b.curve.size());
  for (size_t i = 0; i < a.curve.size(); ++i) {
    EXPECT_EQ(a.curve[i].loss, b.curve[i].loss) << i;
    EXPECT_EQ(a.curve[i].held_out, b.curve[i].held_out) << i;
  }
  EXPECT_EQ(a.before, b.before);
  EXPECT_EQ(a.after, b.after);
}

TEST(Lora, LearnsOnAQuantizedBaseThatStays) {
  for (const char* type : {"F32", "Q8_0", "Q4_0"}) {
    Training t(type);
    const std::vector<std::byte> before(t.model.tensor("blk.0.attn_q.weight").raw().begin(), t.model.tensor("blk.0.attn_q.weight").raw().end());
    const LoraResult r = t.run(2);
    EXPECT_EQ(r.n_steps, 30u);
    EXPECT_LT(r.after, r.before - 0.3) << type;
    EXPECT_EQ(r.curve.size(), r.n_steps);
    EXPECT_TRUE(r.curve.back().held_out.has_value());
    const auto after = t.model.tensor("blk.0.attn_q.weight").raw();
    EXPECT_TRUE(std::equal(before.begin(), before.end(), after.begin(), after.end()));
  }
}

TEST(Lora, TheFreshAdapterChangesNothing) {
  RandomModel plain{RandomModelOptions()}, adapted{RandomModelOptions()};
  const Adapter adapter = fresh_adapter(adapted, adaptable_tensors(adapted), 8, 16, 1);
  add_adapter(adapted, adapter);
  const std::vector<TokenId> tokens = random_tokens(kTokens, kVocab, 3);
  ThreadPool pool(1);
  std::vector<float> logits[2];
  for (const Model* m : {static_cast<const Model*>(&plain), static_cast<const Model*>(&adapted)}) {
    auto& out = logits[m == &adapted];
    out.resize(kTokens * kVocab);
    const auto engine = Engine::make(*m, pool);
    const auto session = engine->new_session(kTokens);
    engine->forward(*session, tokens, kTokens, out);
  }
  EXPECT_EQ(logits[0], logits[1]);
  for (const auto& [name, r] : adapter.tensors)  // Kaiming-uniform: within 1/√n_in, and about all of that
    for (const float v : {*std::max_element(r->a.begin(), r->a.end()), -*std::min_element(r->a.begin(), r->a.end())}) {
      EXPECT_LE(v, 1 / std::sqrt(static_cast<float>(r->n_cols)));
      EXPECT_GT(v, 0.9f / std::sqrt(static_cast<float>(r->n_cols)));
    }
}

TEST(Lora, DoesNotDependOnThreads) {
  const Training t;
  expect_same(t.run(1), t.run(3));
}

TEST(Lora, GoesOnFromACheckpointToTheSameBytes) {
  Training t;
  const LoraResult whole = t.run(2);
  t.options.checkpoint = (std::filesystem::temp_directory_path() / "lora_test.checkpoint").string();
  std::filesystem::remove(t.options.checkpoint);
  for (const uint64_t stop : {uint64_t{7}, uint64_t{20}}) {  // interrupted twice
    t.options.on_step = [stop](uint64_t step) {
      if (step == stop) fail(ExitCode::kInterrupted, "stop");
    };
    try {
      t.run(2);
      FAIL() << "it was not interrupted";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kInterrupted);
      EXPECT_NE(std::string(e.what()).find(std::to_string(stop)), std::string::npos) << e.what();
    }
    ASSERT_TRUE(std::filesystem::exists(t.options.checkpoint));
  }
  t.options.on_step = {};
  const LoraResult resumed = t.run(1);
  EXPECT_EQ(resumed.first_step, 20u);
  expect_same(whole, resumed);

  // Another training neither goes on from it nor overwrites it.
  t.options.rate *= 2;
  try {
    t.run(1);
    FAIL() << "it took another run's checkpoint";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kUsage);
  }
  EXPECT_TRUE(std::filesystem::exists(t.options.checkpoint));
  std::filesystem::remove(t.options.checkpoint);
}

TEST(Lora, TrainsExperts) {
  Training t("F32", 4);
  t.options.targets = "experts";
  const LoraResult r = t.run(1);
  EXPECT_EQ(r.adapter.tensors.size(), 6u);
  EXPECT_LT(r.after, r.before - 0.1);
  expect_same(r, t.run(3));
  t.options.checkpoint = (std::filesystem::temp_directory_path() / "lora_experts_test.checkpoint").string();
  std::filesystem::remove(t.options.checkpoint);
  t.options.on_step = [](uint64_t step) {
    if (step == 11) fail(ExitCode::kInterrupted, "stop");
  };
  EXPECT_THROW(t.run(2), Error);
  t.options.on_step = {};
  const LoraResult resumed = t.run(2);
  EXPECT_EQ(resumed.first_step, 11u);
  expect_same(r, resumed);
  std::filesystem::remove(t.options.checkpoint);
}

// Conversations that share windows are learned as those in windows of their own: the first step's loss and gradient are those of the
// same sequences one by one, up to the order of sums (f32 in the gradient: at most 192 terms).
TEST(Lora, PackedSequencesAreLearnedAsIfAlone) {
  Training t;
  t.windows.resize(8);
  t.options.held_out = 0;
  t.options.n_tokens = 0;
  t.options.tokens_per_step = 8 * 24;
  const LoraResult alone = t.run(2);
  std::vector<TuneWindow> packed;
  for (size_t i = 0; i < 8; i += 4) {
    TuneWindow w;
    for (size_t k = i; k < i + 4; ++k) {
      w.starts.push_back(static_cast<uint32_t>(w.tokens.size()));
      w.tokens.insert(w.tokens.end(), t.windows[k].tokens.begin(), t.windows[k].tokens.end());
      w.targets.insert(w.targets.end(), t.windows[k].targets.begin(), t.windows[k].targets.end());
    }
    packed.push_back(w);
  }
  const std::string hash = windows_hash(packed);
  t.windows = packed;
  const LoraResult together = t.run(2);
  ASSERT_EQ(alone.n_steps, 1u);
  ASSERT_EQ(together.n_steps, 1u);
  EXPECT_NEAR(together.curve[0].loss, alone.curve[0].loss, 1e-12);
  EXPECT_NEAR(together.curve[0].norm, alone.curve[0].norm, 192 * 0x1p-24 * alone.curve[0].norm);
  for (TuneWindow& w : t.windows) w.starts.clear();
  EXPECT_NE(windows_hash(t.windows), hash);
  EXPECT_GT(std::fabs(t.run(2).curve[0].loss - alone.curve[0].loss), 1e-4);
}

TEST(Lora, MemoryIsPredicted) {
  for (const uint32_t n_vocab : {50u, 4000u}) {
    const RandomModel model(random_options([&](auto& o) {
      o.n_embd = 64;
      o.n_ff = 160;
      o.n_layers = 4;
      o.head_dim = 16;
      o.n_vocab = n_vocab;
    }));
    std::vector<std::vector<TokenId>> chunks;
    for (uint32_t i = 0; i < 12; ++i) chunks.push_back(random_tokens(200, n_vocab, i));
    LoraOptions options;
    options.tokens_per_step = 400;
    ThreadPool pool(2);
    const LoraResult r = tune_lora(model, text_windows(chunks), options, pool);
    const LoraMemory memory = lora_memory(model, options, 200, pool.size());
    EXPECT_LE(r.scratch_bytes, memory.adapter + memory.passes) << n_vocab;
    EXPECT_GT(static_cast<double>(r.scratch_bytes), 0.75 * static_cast<double>(memory.adapter + memory.passes)) << n_vocab;
    EXPECT_LE(r.peak_bytes, std::max(r.predicted_bytes, memory.now)) << n_vocab;
  }
}

TEST(Lora, TargetsByTheirNames) {
  const RandomModel model{RandomModelOptions()};
  EXPECT_EQ(targeted_tensors(model, "all").size(), 14u);  // two layers of seven
  EXPECT_EQ(targeted_tensors(model, "attn_q+ffn_down"),
            (std::vector<std::string>{"blk.0.attn_q.weight", "blk.0.ffn_down.weight", "blk.1.attn_q.weight", "blk.1.ffn_down.weight"}));
  EXPECT_THROW(targeted_tensors(model, "attn_z"), Error);
}

TEST(LoftQ, FindsTheBestApproximation) {
  constexpr size_t kRows = 90, kCols = 70, kRank = 5;
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  // Rank 5, and a little of everything: what is left of the best rank-5 part is no more than that little.
  std::vector<float> left(kRows * kRank), right(kRank * kCols), m(kRows * kCols);
  for (auto* v : {&left, &right})
    for (float& x : *v) x = normal(random);
  double noise = 0;
  for (size_t r = 0; r < kRows; ++r)
    for (size_t c = 0; c < kCols; ++c) {
      const float little = 0.01f * normal(random);
      noise += static_cast<double>(little) * static_cast<double>(little);
      m[r * kCols + c] = little;
      for (size_t k = 0; k < kRank; ++k) m[r * kCols + c] += left[r * kRank + k] * right[k * kCols + c];
    }
  ThreadPool one(1), three(3);
  const LowRankFactors f = low_rank_factors(m, kRows, kCols, kRank, 1, one), again = low_rank_factors(m, kRows, kCols, kRank, 1, three);
  EXPECT_EQ(f.left, again.left);
  EXPECT_EQ(f.right, again.right);
  double error = 0;
  for (size_t r = 0; r < kRows; ++r)
    for (size_t c = 0; c < kCols; ++c) {
      double e = static_cast<double>(m[r * kCols + c]);
      for (size_t k = 0; k < kRank; ++k) e -= static_cast<double>(f.left[r * kRank + k]) * static_cast<double>(f.right[k * kCols + c]);
      error += e * e;
    }
  EXPECT_LT(error, noise);
}

TEST(LoftQ, StartsNearerToTheFloatModel) {
  const auto options = [](const char* type) {
    return random_options([&](auto& o) {
      o.n_ff = 64;
      o.type = type;
    });
  };
  const RandomModel whole(options("F32")), base(options("Q4_0"));  // of the same numbers, but for their rounding
  Adapter adapter = fresh_adapter(base, adaptable_tensors(base), 8, 16, 1);
  ThreadPool pool(2);
  start_from_error(base, whole, adapter, 1, pool);
  for (const auto& [name, r] : adapter.tensors) {
    const ModelTensor &w = whole.tensor(name), &q = base.tensor(name), with = q.with_low_rank(r);
    double error[2] = {0, 0};
    std::vector<float> x(w.n_elements()), y(w.n_elements());
    w.read_rows(0, w.n_rows(), x.data());
    for (const ModelTensor* t : {&q, &with}) {
      t->read_rows(0, t->n_rows(), y.data());
      for (size_t i = 0; i < x.size(); ++i) error[t == &with] += std::pow(static_cast<double>(x[i]) - static_cast<double>(y[i]), 2);
    }
    EXPECT_LT(error[1], 0.75 * error[0]) << name;
  }
  EXPECT_THROW(start_from_error(base, RandomModel(random_options([](auto& o) { o.n_ff = 96; })), adapter, 1, pool), Error);
}

}  // namespace
}  // namespace tsubu
