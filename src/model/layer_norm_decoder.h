// What GPT-2, OPT, BLOOM and GPT-NeoX share: blocks with LayerNorm, as many key as query heads, biases everywhere, a feed-forward
// of two matrices around an activation. Each says for itself how positions enter and what is added to what.
#pragma once

#include "model/architecture.h"
#include "model/config_reader.h"
#include "model/tensor_list.h"

namespace tsubu {

class LayerNormDecoder : public Architecture {
 public:
  Hparams hparams_from_gguf(const GgufMetadata& metadata, const std::string& where) const override;
  void hparams_to_gguf(const Hparams& h, GgufMetadata& metadata) const override;

 protected:
  virtual void add_from_gguf(const GgufReader&, Hparams&) const {}
  virtual void add_to_gguf(const Hparams&, GgufMetadata&) const {}
  // What OPT, GPT-NeoX and their like call alike in config.json; ffn: the key of the feed-forward's width.
  Hparams common_from_config(const ConfigReader& config, std::string_view ffn) const;
  // Derives what follows from the rest and checks it. Throws Error(kBadInput).
  static Hparams finish(Hparams h, const std::string& where);
};

// Tensors: weight and bias of each.
class BiasedList {
 public:
  TensorList list;
  void norm(const char* ours, const char* theirs, uint64_t width);
  // split_heads: rows of q, k and v lie head by head in Hugging Face.
  void linear(const char* ours, const char* theirs, uint64_t rows, uint64_t cols, Role role, uint32_t split_heads = 0);
};

// Operations: weight and bias of each, under the block's prefix.
class BiasedGraph {
 public:
  explicit BiasedGraph(float eps) : eps_(eps) {}
  GraphBuilder g;
  void enter_block(uint32_t layer);
  void leave_blocks();
  ValueId norm(ValueId x, std::string_view name);
  ValueId linear(ValueId x, std::string_view name, uint32_t width);
  // q, k and v of one matrix, n_embd rows each.
  struct Heads {
    ValueId q, k, v;
  };
  Heads split(ValueId qkv, uint32_t n_embd);

 private:
  float eps_;
  std::string prefix_;
};

// "gelu" → x Φ(x), "relu" …; Error(kUnsupported) that lists what is known.
OpKind activation_named(const std::string& name, const std::string& where);

}  // namespace tsubu
