// Runs a model's graph on the CPU: tokens in, logits out, with a KV cache. Weights stay in the file's form and are
// decoded tile by tile; activations are f32 and are not rounded unless asked. Results do not depend on the number of
// threads nor on how a sequence is cut into calls.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/threads.h"
#include "engine/numerics.h"
#include "model/model.h"

namespace tsubu {

// Sees the input of every linear, the head's included, for all tokens, whatever logits are wanted: x is
// (n_tokens, n_cols). For calibration and perturbation studies.
class LinearObserver {
 public:
  virtual ~LinearObserver() = default;
  virtual void on_linear_input(const Op& op, const float* x, size_t n_tokens, size_t n_cols) = 0;
  // Linears of experts: the inputs of those tokens that were routed to the expert, gathered; none when n_tokens is 0.
  virtual void on_expert_input(const Op&, size_t /*expert*/, const float* /*x*/, size_t /*n_tokens*/,
                               size_t /*n_cols*/) {}
};

// Changes the input of linears before they multiply it: x is a copy, (n_tokens, n_cols), of the tokens from `position`
// of the sequence on. Linears that read one value and are all edited get one copy, changed for the first of them. Of experts
// the value of all slots of a token is one input.
class LinearInputEditor {
 public:
  virtual ~LinearInputEditor() = default;
  virtual bool edits(const Op& op) const = 0;
  virtual void edit(const Op& op, float* x, size_t n_tokens, size_t n_cols, size_t position) = 0;
};

struct EngineOptions {
  // Rounds the inputs of linears with quantized weights to 8 bits, as llama.cpp's CPU path does: Q8_0 blocks of 32 for
  // the 32-weight types, Q8_K blocks of 256 for the 256-weight ones; F16/BF16 weights: inputs to F16/BF16.
  bool act_int8 = false;
  bool kv_f16 = false;  // rounds keys and values to f16 when they are stored, as llama.cpp does by default
  // Linears multiply bfloat16 numbers (inputs and weights rounded to them), sums in f32: several times as fast where
  // Kernels::native_bf16. Not the head; not calls of a few tokens, nor together with act_int8 or schemes.
  bool bf16_products = false;
  LinearObserver* observer = nullptr;
  LinearInputEditor* editor = nullptr;  // not together with act_int8, bf16_products or schemes
  Numerics numerics = {};  // schemes to compute in; not together with act_int8; routers stay as they are
};

// A value of the graph for the tokens of one window: (n_tokens, width) floats.
struct StageValue {
  ValueId id = kNoValue;
  float* data = nullptr;
  size_t first = 0;  // logits only: rows of the tokens from this one on
};

// Keys and values of one sequence.
class Session {
 public:
  virtual ~Session() = default;
  virtual size_t n_past() const = 0;
  virtual size_t capacity() const = 0;
  virtual uint64_t size_bytes() const = 0;   // of keys and values, at full length
  virtual void truncate(size_t n_past) = 0;  // forget everything from that position on
  // Becomes the first n_tokens of another session of the same engine, copied. Throws Error(kUsage) when they are not
  // there or do not fit.
  virtual void copy_prefix(const Session& from, size_t n_tokens) = 0;
};

// Some tokens of one sequence among those that are computed together.
struct BatchPart {
  Session* session = nullptr;
  std::span<const TokenId> tokens;
  size_t n_logits = 0;  // of the last tokens
};

// Whether a model is so large, and this machine so much faster with them, that measuring takes bf16_products by default.
bool bf16_products_pay(const Model& model);

class Engine {
 public:
  virtual ~Engine() = default;
  // model and pool must outlive the engine.
  static std::unique_ptr<Engine> make(const Model& model, ThreadPool& pool, const EngineOptions& options = {});

  virtual std::unique_ptr<Session> new_session(size_t max_tokens) const = 0;
  // Appends tokens to the session. Logits of the last n_logits of them go to `logits` (n_logits × n_vocab; 0: none are
  // computed). Throws Error(kUsage) when the session is full, Error(kBadInput) on a token outside the vocabulary.
  virtual void forward(Session& session, std::span<const TokenId> tokens, size_t n_logits, std::span<float> logits) = 0;
  // Several sequences at once, so that the weights are read once for all of them: appends each part's tokens to its
  // session; logits holds the parts' rows in their order. At most max_batch_tokens() tokens in all, sessions all
  // different, none without tokens. What a sequence gets does not depend on the others (but for Numerics::outliers).
  // Errors as forward's, found before anything is computed.
  virtual void forward_batch(std::span<const BatchPart> parts, std::span<float> logits) = 0;
  virtual size_t max_batch_tokens() const = 0;
  // Part of the graph, for work that goes block by block: appends tokens to the session and runs blocks [first, last).
  // What stands before the blocks (embeddings) runs when first is 0, what stands after them when last is n_blocks(), up
  // to the input of the head: no logits. stream is (n_tokens, stream_width()): what passes from block to block, read
  // unless first is 0, written unless last is n_blocks(). The session's tokens are those of its last call for every
  // block: truncate it to 0 before a sequence is given to further blocks. An interrupt is
  // looked for before the call's work only: it is done whole or not at all. Throws Error(kUnsupported) when more than one
  // value passes from block to block.
  virtual void forward_blocks(Session& session, std::span<const TokenId> tokens, size_t first, size_t last,
                              std::span<float> stream) = 0;
  virtual size_t n_blocks() const = 0;
  virtual size_t stream_width() const = 0;  // 0 when more than one value passes from block to block
  virtual size_t n_vocab() const = 0;

  // Part of the graph on one window of tokens, for work that goes layer by layer: steps [begin, end) of Graph::ops. in:
  // the values computed before `begin` that the part reads (live_values); out: values to copy when it is done. The
  // session holds the keys and values of this window alone and is emptied by the call. With `end` at the last step, out
  // may hold the logits, alone.
  virtual void run_steps(Session& session, std::span<const TokenId> tokens, size_t begin, size_t end,
                         std::span<const StageValue> in, std::span<const StageValue> out) = 0;
  // From now on operations use this tensor as weight or bias (no router's) `name`: of its shape; it must outlive the engine.
  virtual void replace_weight(std::string_view name, const ModelTensor& tensor) = 0;
  virtual uint64_t scratch_bytes() const = 0;  // memory besides the mapped weights and sessions
  // Codes and scales of the weights that numerics.weights asks for, as they lie in memory; 0 without.
  virtual uint64_t quantized_bytes() const = 0;
};

}  // namespace tsubu
