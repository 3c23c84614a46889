#include "lens/perturbation.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "engine/random_model.h"
#include "lens/harm.h"

namespace tsubu {
namespace {

class Perturbing : public testing::Test {
 protected:
  Perturbing() : model(options()), pool(2), tensor(model.tensor("blk.0.ffn_down.weight")), x(tensor.n_elements()) {
    tensor.read_rows(0, tensor.n_rows(), x.data());
  }
  static RandomModelOptions options() {
    RandomModelOptions o;
    o.n_ff = 256;
    o.n_embd = 64;
    o.n_heads = 8;
    return o;
  }
  PerturbedTensor run(const std::string& text, double r, uint64_t seed = 1, int threads = 2) {
    Perturbation p = parse_perturbation(text);
    p.r = r;
    p.seed = seed;
    ThreadPool some(threads);
    return perturb(tensor, p, nullptr, some);
  }
  double norm_ratio(const std::vector<float>& y) const {
    double change = 0, norm = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      change += std::pow(double{y[i]} - double{x[i]}, 2);
      norm += double{x[i]} * double{x[i]};
    }
    return std::sqrt(change / norm);
  }
  // Mean |Δ| of the values above the median magnitude, over that of those below.
  double large_over_small(const std::vector<float>& y) const {
    std::vector<float> magnitudes;
    for (float v : x) magnitudes.push_back(std::abs(v));
    std::nth_element(magnitudes.begin(), magnitudes.begin() + static_cast<ptrdiff_t>(x.size() / 2), magnitudes.end());
    const float median = magnitudes[x.size() / 2];
    double large = 0, small = 0;
    for (size_t i = 0; i < x.size(); ++i) (std::abs(x[i]) > median ? large : small) += std::abs(double{y[i]} - double{x[i]});
    return large / small;
  }
  RandomModel model;
  ThreadPool pool;
  const ModelTensor& tensor;
  std::vector<float> x;
};

TEST_F(Perturbing, NoiseHasTheNormAskedForAndDiffersBySeedOnly) {
  for (const char* kind : {"gaussian", "uniform", "rademacher", "M+", "M-", "gamma=0.5", "gamma=-1", "rows", "Q4_0"}) {
    const PerturbedTensor a = run(kind, 0.03);
    EXPECT_NEAR(a.r, 0.03, 1e-6) << kind;
    EXPECT_NEAR(norm_ratio(a.values), a.r, 1e-6) << kind;
    EXPECT_EQ(a.values, run(kind, 0.03, 1, 1).values) << kind << " depends on the threads";
    if (parse_perturbation(kind).is_random()) {
      EXPECT_NE(a.values, run(kind, 0.03, 2).values) << kind;
    }
  }
}

TEST_F(Perturbing, MagnitudeAndNoiseGoTogetherAsTheKindSays) {
  EXPECT_NEAR(large_over_small(run("gaussian", 0.1).values), 1, 0.05);
  EXPECT_GT(large_over_small(run("M+", 0.1).values), 2.5);
  EXPECT_LT(large_over_small(run("M-", 0.1).values), 0.8);
  EXPECT_LT(large_over_small(run("gamma=-1", 0.1).values), 0.5);
}

TEST_F(Perturbing, ClippingCutsTheShareOrGivesTheNorm) {
  const std::vector<float> y = run("clip=0.01", 0).values;
  size_t changed = 0;
  for (size_t i = 0; i < x.size(); ++i) changed += y[i] != x[i] ? 1 : 0;
  EXPECT_NEAR(static_cast<double>(changed), 0.01 * static_cast<double>(x.size()), 2);
  const PerturbedTensor matched = run("clip", 0.05);
  EXPECT_NEAR(matched.r, 0.05, 1e-4);
  EXPECT_NEAR(norm_ratio(matched.values), matched.r, 1e-6);
}

TEST_F(Perturbing, ACodecPerturbsByItsOwnError) {
  const PerturbedTensor y = run("Q8_0", 0);
  const TypeInfo& type = type_named("Q8_0");
  std::vector<std::byte> bytes(tensor.n_cols() / type.block_len * type.block_bytes);
  std::vector<float> row(tensor.n_cols());
  type.encode(x.data(), nullptr, bytes.data(), tensor.n_cols());
  type.decode(bytes.data(), row.data(), tensor.n_cols());
  EXPECT_TRUE(std::equal(row.begin(), row.end(), y.values.begin()));
}

TEST_F(Perturbing, RowsOfActivationsEachKeepTheirRatio) {
  Perturbation p = parse_perturbation("M-");
  p.r = 0.1;
  std::vector<float> y = x;
  perturb_rows(y.data(), tensor.n_rows(), tensor.n_cols(), p, true, 7, 0, pool);
  for (uint64_t r = 0; r < tensor.n_rows(); ++r) {
    double change = 0, norm = 0;
    for (uint64_t c = r * tensor.n_cols(); c < (r + 1) * tensor.n_cols(); ++c) {
      change += std::pow(double{y[c]} - double{x[c]}, 2);
      norm += double{x[c]} * double{x[c]};
    }
    EXPECT_NEAR(std::sqrt(change / norm), 0.1, 1e-5);
  }
  // A row's draws do not depend on the rows computed with it.
  std::vector<float> last(x.end() - static_cast<ptrdiff_t>(tensor.n_cols()), x.end());
  perturb_rows(last.data(), 1, tensor.n_cols(), p, true, 7, tensor.n_rows() - 1, pool);
  EXPECT_TRUE(std::equal(last.begin(), last.end(), y.end() - static_cast<ptrdiff_t>(tensor.n_cols())));
}

TEST(ParsePerturbation, SaysWhatThereIs) {
  for (const char* text : {"gausian", "gamma", "gamma=x", "clip=2", "gaussian=1", "Q4_Z", "gamma=9"}) {
    try {
      parse_perturbation(text);
      ADD_FAILURE() << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kUsage) << text;
    }
  }
  EXPECT_EQ(parse_perturbation("gamma=0.5").name(), "gamma=0.5");
  EXPECT_EQ(parse_perturbation("q4_k").name(), "Q4_K");
}

TEST(HarmMeter, FromAStepOnIsTheWholeModelWithThatWeight) {
  for (const bool gpt2 : {false, true}) {
    RandomModelOptions o;
    o.gpt2 = gpt2;
    const RandomModel model(o);
    ThreadPool pool(2);
    const std::vector<std::vector<TokenId>> chunks = {random_tokens(24, o.n_vocab, 1), random_tokens(24, o.n_vocab, 2)};
    HarmMeter meter(model, chunks, pool);
    EXPECT_EQ(meter.measure({}).kld, 0);
    Perturbation p = parse_perturbation("gaussian");
    p.r = 0.2;
    size_t n = 0;
    for (const ReadGroup& group : read_groups(model.graph())) {
      meter.advance(group.step);
      for (const Op* op : group.linears) {
        if (op->weight == "token_embd.weight") continue;  // the tied head: read at the start as well
        const ModelTensor& tensor = model.tensor(op->weight);
        const PerturbedTensor changed = perturb(tensor, p, nullptr, pool);
        const ModelTensor replaced(tensor.spec(), type_named("F32"), std::as_bytes(std::span(changed.values)));
        const Replacement replacement = &replaced;
        const Harm part = meter.measure({&replacement, 1}), whole = meter.measure_whole({}, {&replacement, 1});
        EXPECT_GT(part.kld, 1e-7) << op->weight;
        EXPECT_EQ(part.kld, whole.kld) << op->weight;
        EXPECT_EQ(part.ln_ppl_ratio, whole.ln_ppl_ratio) << op->weight;
        EXPECT_EQ(meter.measure({}).kld, 0) << op->weight << " was not put back";
        ++n;
      }
    }
    EXPECT_GE(n, gpt2 ? 8u : 15u);
  }
}

// Editing the input of every linear by a factor is editing their weights by it.
TEST(HarmMeter, EditedActivationsReachTheLinears) {
  class Doubling : public LinearInputEditor {
   public:
    bool edits(const Op& op) const override { return op.weight.find("ffn_down") != std::string::npos; }
    void edit(const Op&, float* x, size_t n_tokens, size_t n_cols, size_t) override {
      for (size_t i = 0; i < n_tokens * n_cols; ++i) x[i] *= 2;
    }
  };
  const RandomModel model(RandomModelOptions{});
  ThreadPool pool(1);
  const std::vector<std::vector<TokenId>> chunks = {random_tokens(24, 50, 1)};
  HarmMeter meter(model, chunks, pool);
  Doubling editor;
  const Harm edited = meter.measure_whole({.editor = &editor}, {});
  std::vector<std::vector<float>> values;
  std::vector<ModelTensor> tensors;
  for (const char* name : {"blk.0.ffn_down.weight", "blk.1.ffn_down.weight"}) {
    const ModelTensor& tensor = model.tensor(name);
    values.emplace_back(tensor.n_elements());
    tensor.read_rows(0, tensor.n_rows(), values.back().data());
    for (float& v : values.back()) v *= 2;
    tensors.emplace_back(tensor.spec(), type_named("F32"), std::as_bytes(std::span(values.back())));
  }
  const Replacement replacements[] = {&tensors[0], &tensors[1]};
  EXPECT_EQ(edited.kld, meter.measure_whole({}, replacements).kld);
  EXPECT_GT(edited.kld, 1e-6);
}

}  // namespace
}  // namespace tsubu
