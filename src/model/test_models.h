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

}  // namespace tsubu
