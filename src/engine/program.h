// A graph made ready to run: weights looked up and checked against the widths, values assigned to buffers by liveness.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/attention.h"
#include "engine/expert_linear.h"
#include "engine/linear.h"
#include "engine/quantized_linear.h"
#include "engine/rope.h"
#include "model/model.h"

namespace tsubu {

struct Step {
  const Op* op = nullptr;
  const ModelTensor* table = nullptr;  // embeddings: rows by token or position
  std::unique_ptr<Linear> linear;
  std::unique_ptr<QuantizedLinear> quantized;  // when the linear is computed in a scheme
  std::unique_ptr<ExpertLinear> experts;
  std::vector<std::unique_ptr<QuantizedLinear>> quantized_experts;  // when they are computed in a scheme
  std::vector<float> weight, bias;  // norms; bias: of a router
  AttentionShape attention;
  size_t attention_index = 0;  // among the graph's attentions: its part of the cache
};

struct Program {
  std::vector<Step> steps;
  std::vector<size_t> buffer_of;  // by value; unused for the logits
  std::vector<size_t> buffer_widths;
  std::vector<CacheShape> caches;  // by attention
  std::vector<RopeTable> ropes;
  size_t last_attention = 0;  // steps after it work token by token (0 as well when there is none)
  bool has_attention = false;
  // Blocks: block b is steps [block_begin[b], block_begin[b + 1]). streams[b] is the one value that enters block b from
  // outside; empty when some block has none or several.
  std::vector<size_t> block_begin;
  std::vector<ValueId> streams;
  size_t n_vocab = 0;
  size_t max_positions = SIZE_MAX;  // rows of a learned position table
  std::map<std::string, const ModelTensor*, std::less<>> replaced;  // weights and biases that are not the model's

  uint64_t size_bytes() const;       // of what the steps keep beside the mapped weights, but for quantized ones
  uint64_t quantized_bytes() const;  // codes and scales of weights in a scheme
};

// Throws Error(kBadInput) when a weight is missing or does not fit its place, Error(kUnsupported) when the graph does
// not end with the linear that gives the logits.
Program make_program(const Model& model);
// The steps that use weight or bias `name` (but a router's bias) use this tensor from now on; those steps.
std::vector<Step*> replace_tensor(Program& program, const Model& model, std::string_view name, const ModelTensor& tensor);

}  // namespace tsubu
