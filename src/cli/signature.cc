#include "cli/signature.h"

#include <fmt/format.h>

#include <fmt/format.h>

#include "base/hash.h"
#include "codec/type_info.h"
#include "engine/engine.h"
#include "engine/sampler.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr size_t kRows = 16, kCols = 1024;
constexpr std::string_view kPrompt = "Once upon a time";

// SplitMix64 (Steele, Lea, Flood 2014).
class Random {
 public:
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

 private:
  uint64_t state_ = 0;
};

// Bell-shaped values, exact on every machine: the sum of four 16-bit integers less its mean, times a power of two; one
// in 512 is an outlier eight times as large, rows differ in scale.
std::vector<float> fixed_matrix() {
  Random random;
  std::vector<float> x(kRows * kCols);
  for (size_t i = 0; i < x.size(); ++i) {
    const uint64_t r = random.next();
    const int64_t sum = static_cast<int64_t>((r & 0xffff) + (r >> 16 & 0xffff) + (r >> 32 & 0xffff) + (r >> 48)) - 131070;
    const float outlier = random.next() % 512 == 0 ? 8.0f : 1.0f;
    x[i] = static_cast<float>(sum) * 0x1p-20f * outlier / static_cast<float>(1u << (i / kCols % 4));
  }
  return x;
}

std::vector<float> fixed_importance() {
  Random random;
  std::vector<float> importance(kCols);
  for (float& w : importance) w = static_cast<float>(1 + random.next() % 4096) * 0x1p-8f;
  return importance;
}

std::string codec_bytes_hash() {
  const std::vector<float> x = fixed_matrix(), importance = fixed_importance();
  std::vector<std::byte> all;
  for (const TypeInfo& type : types()) {
    if (!type.encode) continue;
    const auto encode = kernels().encode[type.index] ? kernels().encode[type.index] : type.encode;
    std::vector<std::byte> row(tensor_bytes(type, 1, kCols));
    for (const float* weights : {static_cast<const float*>(nullptr), importance.data()})
      for (size_t r = 0; r < kRows; ++r) {
        encode(x.data() + r * kCols, weights, row.data(), kCols);
        all.insert(all.end(), row.begin(), row.end());
      }
  }
  return hash_bytes(all);
}

std::vector<TokenId> greedy_tokens(const Model& model, ThreadPool& pool) {
  const std::vector<TokenId> prompt = model.make_tokenizer()->encode(kPrompt);
  const auto engine = Engine::make(model, pool);
  const auto session = engine->new_session(prompt.size() + kSignatureTokens);
  std::vector<float> logits(engine->n_vocab());
  SamplerOptions greedy;
  greedy.temperature = 0;
  Sampler sampler(greedy);
  engine->forward(*session, prompt, 1, logits);
  std::vector<TokenId> tokens;
  while (true) {
    tokens.push_back(sampler.pick(logits, {}));
    if (tokens.size() == kSignatureTokens) return tokens;
    engine->forward(*session, std::span(&tokens.back(), 1), 1, logits);
  }
}

}  // namespace

Signature make_signature(const Model& model, ThreadPool& pool) {
  Signature signature;
  signature.codecs = codec_bytes_hash();
  signature.tokens = greedy_tokens(model, pool);
  std::string text = signature.codecs;
  for (TokenId id : signature.tokens) text += fmt::format(" {}", id);
  signature.hash = hash_bytes(std::as_bytes(std::span(text.data(), text.size())));
  return signature;
}

Json to_json(const Signature& signature) {
  Json json;
  json["signature"] = signature.hash;
  json["codecs"] = signature.codecs;
  json["tokens"] = signature.tokens;
  return json;
}

}  // namespace tsubu
