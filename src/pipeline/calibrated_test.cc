#include "pipeline/calibrated.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "engine/engine.h"
#include "engine/random_model.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

struct Shape {
  std::string name;
  RandomModelOptions options;
  Products products = Products::kF32;
  uint64_t fisher_tokens = 0;
};

RandomModelOptions shape(bool gpt2, bool head_norms) {
  RandomModelOptions o;
  o.n_layers = 2;
  o.n_embd = o.n_ff = 64;
  o.head_dim = 16;
  o.gpt2 = gpt2;
  o.head_norms = head_norms;
  return o;
}

// A mixture; latent: with heads that have matrices of their own and an expert of all tokens.
RandomModelOptions mixture(bool latent) {
  RandomModelOptions o = shape(false, false);
  o.n_experts = 4;
  if (latent) {
    o.kv_latent = 32;
    o.value_dim = 16;
    o.n_rope_pairs = 4;
    o.head_dim = 40;
    o.n_ff_shared = 32;
  }
  return o;
}

class EveryShape : public testing::TestWithParam<Shape> {
 protected:
  EveryShape()
      : model(GetParam().options),
        pool(2),
        path(fs::temp_directory_path() / ("tsubu-calibrated-" + std::to_string(getpid()))) {
    options.products = GetParam().products;
    options.fisher_tokens = GetParam().fisher_tokens;
    options.fisher_rows = 32;  // some matrices in two blocks
    corpus.context = 32;
    for (uint32_t c = 0; c < 48; ++c)
      corpus.chunks.push_back(random_tokens(corpus.context, GetParam().options.n_vocab, c));
    for (const ModelTensor& tensor : model.tensors()) {
      PlannedTensor p;
      p.tensor = &tensor;
      const bool matrix = tensor.spec().shape.size() >= 2 && tensor.spec().quantizable && !tensor.name().starts_with("position");
      p.type = p.wanted = &type_named(matrix ? "Q4_0" : "F32");
      p.size_bytes = tensor_bytes(*p.type, tensor.n_rows(), tensor.n_cols());
      plan.push_back(p);
    }
  }
  ~EveryShape() override { fs::remove_all(RoundedStore::folder(path)); }

  // Mean squared difference of the logits of unseen tokens from the float model's, with tensors from `bytes`.
  double logit_error(const std::map<std::string, RoundedTensor>& tensors) {
    const auto base = Engine::make(model, pool), other = Engine::make(model, pool);
    std::map<std::string, ModelTensor> replaced;
    for (const PlannedTensor& p : plan)
      if (const auto it = tensors.find(p.tensor->name()); it != tensors.end()) {
        replaced[p.tensor->name()] = ModelTensor(p.tensor->spec(), *p.type, it->second.bytes);
        other->replace_weight(p.tensor->name(), replaced[p.tensor->name()]);
      }
    double sum = 0;
    const size_t n = 64, vocab = base->n_vocab();
    std::vector<float> a(n * vocab), b(n * vocab);
    const auto tokens = random_tokens(n, static_cast<uint32_t>(vocab), 1000);
    base->forward(*base->new_session(n), tokens, n, a);
    other->forward(*other->new_session(n), tokens, n, b);
    for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>((a[i] - b[i]) * (a[i] - b[i]));
    return sum / static_cast<double>(a.size());
  }

  std::map<std::string, RoundedTensor> searched(std::vector<std::vector<std::byte>>& memory) {
    std::map<std::string, RoundedTensor> r;
    for (const PlannedTensor& p : plan) {
      if (!p.type->is_quantized) continue;
      std::vector<float> w(p.tensor->n_elements());
      p.tensor->read_rows(0, p.tensor->n_rows(), w.data());
      memory.emplace_back(p.size_bytes);
      for (uint64_t row = 0; row < p.tensor->n_rows(); ++row)
        kernels().encode[p.type->index](w.data() + row * p.tensor->n_cols(), nullptr,
                                        memory.back().data() + row * (p.size_bytes / p.tensor->n_rows()),
                                        p.tensor->n_cols());
      r[p.tensor->name()].bytes = memory.back();
    }
    return r;
  }

  RandomModel model;
  ThreadPool pool;
  std::string path;
  Corpus corpus;
  std::vector<PlannedTensor> plan;
  CalibratedOptions options;
  std::vector<std::string> notes;
};

TEST_P(EveryShape, LosesLessThanSearch) {
  RoundedStore store(path, "a");
  const CalibrationDivergence divergence = round_calibrated(model, plan, corpus, options, pool, store, notes);
  EXPECT_EQ(divergence.n_tokens, 4 * corpus.context / 2);
  EXPECT_GT(divergence.seen, 0);
  EXPECT_GT(divergence.held_out, 0);
  EXPECT_LT(divergence.held_out, 1);
  for (const PlannedTensor& p : plan) {
    ASSERT_EQ(store.find(p.tensor->name()) != nullptr, p.type->is_quantized) << p.tensor->name();
    if (p.type->is_quantized) {
      EXPECT_EQ(store.find(p.tensor->name())->bytes.size(), p.size_bytes);
    }
  }
  std::vector<std::vector<std::byte>> memory;
  EXPECT_LT(logit_error(store.all()), 0.7 * logit_error(searched(memory)));
  store.remove();
  EXPECT_FALSE(fs::exists(RoundedStore::folder(path)));
}

TEST_P(EveryShape, ThreadsAndAnInterruptChangeNothing) {
  std::map<std::string, std::vector<std::byte>> whole;
  {
    RoundedStore store(path, "a");
    round_calibrated(model, plan, corpus, options, pool, store, notes);
    for (const auto& [name, tensor] : store.all()) whole[name].assign(tensor.bytes.begin(), tensor.bytes.end());
  }
  // Part of the entries are lost, as after an interrupt; another number of threads goes on.
  const fs::path folder = RoundedStore::folder(path);
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".entry" && std::stoi(entry.path().stem()) >= 5) fs::remove(entry.path());
  ThreadPool three(3);
  RoundedStore store(path, "a");
  EXPECT_EQ(store.n_resumed(), 5u);
  round_calibrated(model, plan, corpus, options, three, store, notes);
  ASSERT_EQ(store.all().size(), whole.size());
  for (const auto& [name, tensor] : store.all())
    EXPECT_TRUE(std::equal(tensor.bytes.begin(), tensor.bytes.end(), whole[name].begin(), whole[name].end())) << name;
}

INSTANTIATE_TEST_SUITE_P(Shapes, EveryShape,
                         testing::Values(Shape{"llama", shape(false, false)}, Shape{"qwen3", shape(false, true)},
                                         Shape{"gpt2", shape(true, false)}, Shape{"mixture", mixture(false)},
                                         Shape{"latent_mixture", mixture(true)},
                                         Shape{"mixture_bf16", mixture(false), Products::kBf16},
                                         Shape{"llama_bf16", shape(false, false), Products::kBf16},
                                         Shape{"llama_fisher", shape(false, false), Products::kF32, 1024},
                                         Shape{"gpt2_fisher", shape(true, false), Products::kF32, 1024}),
                         [](const auto& info) { return info.param.name; });

TEST(RoundedStore, KeepsTensorsOfTheSameRunOnly) {
  const std::string path = fs::temp_directory_path() / ("tsubu-store-" + std::to_string(getpid()));
  const std::vector<std::byte> bytes(100, std::byte{7});
  {
    RoundedStore store(path, "key");
    EXPECT_EQ(store.n_resumed(), 0u);
    store.put("t", bytes, "gptq", 1.5, 2.5);
  }
  {
    RoundedStore store(path, "key");
    ASSERT_NE(store.find("t"), nullptr);
    EXPECT_TRUE(store.find("t")->resumed);
    EXPECT_EQ(store.find("t")->error, 1.5);
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), store.find("t")->bytes.begin()));
  }
  {  // damaged
    std::fstream file(RoundedStore::folder(path) + "/0.rows", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(50);
    file.put(1);
    file.close();
    EXPECT_THROW(RoundedStore(path, "key"), Error);
  }
  RoundedStore store(path, "another key");
  EXPECT_EQ(store.find("t"), nullptr);
  store.remove();
}

}  // namespace
}  // namespace tsubu
