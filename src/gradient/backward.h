// The backward pass of a model's graph, one window of tokens at a time. Two passes: forward through the graph, keeping
// what passes from block to block, then block by block from the last one, each computed again with all its values and
// walked in reverse. Memory is that of one block and of the boundaries; the head works on some tokens at a time, so logits of
// a large vocabulary are never whole in memory. Forward values are the engine's own, to the bit (f32); gradients are f32
// and do not depend on the number of threads. Gradients of the weights themselves are left to a GradientSink.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "engine/engine.h"
#include "engine/quantized_inputs.h"
#include "engine/rope.h"
#include "gradient/attention_gradient.h"
#include "gradient/expert_gradient.h"
#include "gradient/lent_buffers.h"
#include "gradient/linear_gradient.h"

namespace tsubu {

// What a backward pass finds out about weights; called in reverse order of the graph.
class GradientSink {
 public:
  virtual ~GradientSink() = default;
  // Linear y = x Wᵀ + b: x is (n_tokens, n_cols), g = ∂loss/∂y (n_tokens, n_rows). The head's come in pieces of tokens.
  virtual void on_linear(const Op& op, const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows) = 0;
  // Whether gradients of tables and vectors are wanted.
  virtual bool wants_vectors() const { return false; }
  // Rows `ids` of a table were looked up or added: g is (n_tokens, width).
  virtual void on_rows(const Op& /*op*/, std::span<const TokenId> /*ids*/, const float* /*g*/, size_t /*width*/) {}
  // Gradients of the vectors `weight` (a norm's gains, attention's sinks) and `bias` of a norm, summed over the window; empty
  // where there is none.
  virtual void on_vectors(const Op& /*op*/, std::span<const float> /*weight*/, std::span<const float> /*bias*/) {}
  // As on_linear, of one expert's matrix and the tokens that were routed to it; experts without tokens do not come.
  virtual void on_expert(const Op& /*op*/, size_t /*expert*/, const float* /*x*/, const float* /*g*/, size_t /*n_tokens*/,
                         size_t /*n_cols*/, size_t /*n_rows*/) {}
};

// Turns logits (n, n_vocab) of the window's tokens from `first` on into ∂loss/∂logits in place; returns their loss.
using LogitLoss = std::function<double(size_t first, size_t n, float* logits)>;

struct BackwardOptions {
  // The forward pass rounds the inputs of the blocks' linears so (its activations alone may be set); gradients pass that
  // rounding as if it were not there, and weights meet the rounded inputs.
  Numerics numerics;
  // Linears multiply bfloat16 numbers, forward (not the head, nor with numerics) and backward: several times as fast where
  // Kernels::native_bf16, and then bits depend on the instruction set.
  bool bf16_products = false;
};

class Backward {
 public:
  // model and pool must outlive it. Throws Error(kUnsupported) when the graph does not end with the linear of the logits.
  Backward(const Model& model, ThreadPool& pool, const BackwardOptions& options = {});

  // The loss over tokens [first, n) of the window; `loss` is called for pieces of them in order. starts: where the window is
  // several sequences one behind the other, the first token of each (KvCache::set_starts); values and gradients of values are
  // those of each in a window of its own, to the bit, and sums over tokens are taken over all of them.
  double run(std::span<const TokenId> tokens, size_t first, const LogitLoss& loss, GradientSink& sink,
             std::span<const uint32_t> starts = {});
  // The forward pass alone.
  double forward(std::span<const TokenId> tokens, size_t first, const LogitLoss& loss, std::span<const uint32_t> starts = {});
  // From now on operations that use weight `name` use this tensor, of the same shape; it must outlive this.
  void replace_weight(const std::string& name, const ModelTensor& tensor);
  // Values of all blocks stay in memory between the two passes where they take at most so many bytes for the window: each
  // block is then computed once. The same bits; 0, the default: never.
  void keep_values(uint64_t max_bytes) { kept_bytes_ = max_bytes; }
  // From now on buffers are made as large as windows of so many tokens need them, so that shorter windows take the same ones.
  void reserve(size_t n_tokens) { reserved_ = n_tokens; }
  // Gives back all memory of the passes so far but the engine's.
  void release();
  size_t n_vocab() const { return engine_->n_vocab(); }
  // Tokens of the head's pieces.
  size_t head_tokens() const { return head_tokens_; }
  static size_t tokens_of_head(size_t n_vocab);
  // Bytes of values and gradients after a run, with the engine's buffers and its keys and values.
  uint64_t scratch_bytes() const;

 private:
  using Buffer = LentBuffers::Buffer;
  size_t width(ValueId value) const { return graph_.widths[static_cast<size_t>(value)]; }
  const ModelTensor& weight(const std::string& name) const;
  Buffer take(size_t n_tokens, size_t width) { return lent_.take(std::max(n_tokens, reserved_) * width); }
  Buffer take_logits(size_t n_tokens);
  void give(Buffer&& buffer) { lent_.give(std::move(buffer)); }
  void begin(std::span<const TokenId> tokens, size_t first, std::span<const uint32_t> starts);
  void forward_segment(size_t segment, std::span<const TokenId> tokens, bool keep_all);
  double head(std::span<const TokenId> tokens, size_t first, const LogitLoss& loss, GradientSink* sink);
  void backward_segment(size_t segment, std::span<const TokenId> tokens, GradientSink& sink, bool is_kept);
  void backward_op(const Op& op, std::span<const TokenId> tokens, GradientSink& sink);
  void norm(const Op& op, size_t n_tokens, GradientSink& sink);
  void attention(const Op& op, size_t n_tokens, GradientSink& sink);
  void route(const Op& op, size_t n_tokens);
  void expert_linear(const Op& op, size_t n_tokens, GradientSink& sink);
  void expert_sum(const Op& op, size_t n_tokens);
  const std::vector<float>& vector_of(const std::string& name);
  void add_gradient(ValueId value, Buffer&& g, size_t n_tokens);
  void each_token(size_t n_tokens, const std::function<void(size_t first, size_t n)>& f);
  void forget();

  const Model& model_;
  const Graph& graph_;
  ThreadPool& pool_;
  Numerics numerics_;
  QuantizedInputs rounded_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Session> session_;
  std::map<std::string, const ModelTensor*> replaced_;
  std::vector<RopeTable> ropes_;
  std::vector<size_t> cuts_;                     // segment s: ops [cuts_[s], cuts_[s + 1]); the head follows the last
  size_t head_tokens_ = 0;
  uint64_t kept_bytes_ = 0;
  std::map<ValueId, Buffer> values_, gradients_;  // values at boundaries, and of the segment at work
  std::map<std::string, std::vector<float>> vectors_;  // of norms, sinks
  LentBuffers lent_;
  size_t reserved_ = 0;
  std::vector<uint32_t> starts_;                 // of the window's sequences; one: from 0
  std::vector<uint32_t> positions_;              // of the window's tokens in their sequences
  bool bf16_products_ = false;
  LinearGradient linears_;
  AttentionGradient attentions_;
  ExpertLinearGradient experts_;
  std::vector<AlignedVector<float>> tiles_;
};

}  // namespace tsubu
