// For tests: tiny Hugging Face directories of every architecture, written from the conventions of transformers (not
// from this folder's tensor lists, which are what is tested).
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "container/safetensors.h"

namespace tsubu {

struct TinyTensor {
  std::string name;
  std::vector<uint64_t> shape;
  SafeDtype dtype = SafeDtype::kF32;
  std::vector<float> values;  // exact in F16 and BF16
};

struct TinyModel {
  Json config;
  std::vector<TinyTensor> tensors;

  void add(const std::string& name, std::vector<uint64_t> shape);
  TinyTensor& tensor(const std::string& name);
  void remove(const std::string& name);
  void set_dtype(SafeDtype dtype);
  // config.json, model.safetensors (n_shards > 1: shards and their index), vocab.json, merges.txt.
  void write(const std::string& folder, int n_shards = 1) const;
};

inline constexpr uint64_t kTinyVocab = 260, kTinyEmbd = 16, kTinyFf = 24;

// 2 layers, embedding 16, feed-forward 24, 4 heads (2 for keys and values) of 4, 260 rows for 257 tokens.
TinyModel tiny_llama();
TinyModel tiny_qwen2();
TinyModel tiny_qwen3();  // heads of 6: 4 × 6 is not 16
TinyModel tiny_gpt2();   // 4 heads of 4
// The same sizes; mixtures of 4 experts with 2 for each token. Windows of 8.
TinyModel tiny_gemma2();
TinyModel tiny_gemma3();  // heads of 6
TinyModel tiny_phi3();    // LongRoPE beyond 32 tokens
TinyModel tiny_mixtral();
TinyModel tiny_qwen3moe();
TinyModel tiny_opt();
TinyModel tiny_bloom();
TinyModel tiny_gptneox();  // half of each head is rotated
TinyModel tiny_gpt_oss();
// Heads of 6 + 4 rotated, values of 5, a latent of 8; one dense layer, one of experts. V3: queries from 12, two groups.
TinyModel tiny_deepseek2();
TinyModel tiny_deepseek3();
inline constexpr uint64_t kTinyExperts = 4;

}  // namespace tsubu
