// The engine: walks a program's steps for batches of tokens. See engine.h for what its results do not depend on.
#include "engine/engine.h"

#include <algorithm>

#include "base/error.h"
#include "base/half.h"
#include "base/progress.h"
#include "engine/elementwise.h"
#include "engine/packed_linear.h"
#include "engine/program.h"
#include "engine/token_batch.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr size_t kMaxBatch = 512;          // tokens computed together
constexpr size_t kWorthBf16 = 32;          // tokens for which weights are turned into panels
constexpr size_t kWorthThreads = 1 << 15;  // values below which an elementwise step stays on one thread

class GraphEngine : public Engine {
 public:
  GraphEngine(const Model& model, ThreadPool& pool, const EngineOptions& options)
      : model_(model), pool_(pool), options_(options), program_(make_program(model)) {
    size_t tile = 0;
    for (const Step& step : program_.steps) {
      if (step.linear) tile = std::max(tile, step.linear->scratch_floats());
      if (step.experts) tile = std::max(tile, step.experts->scratch_floats());
    }
    tiles_.resize(static_cast<size_t>(pool.size()));
    for (auto& t : tiles_) t.resize(tile);
    buffers_.resize(program_.buffer_widths.size());
    if (options.act_int8 && options.numerics.linears())
      fail(ExitCode::kUsage, "schemes for weights or activations and act_int8 exclude each other");
    if (options.editor && (options.act_int8 || options.bf16_products || options.numerics.linears()))
      fail(ExitCode::kUsage, "edited activations are f32: no act_int8, bf16 products or schemes beside them");
    for (Step& step : program_.steps) quantize_linear(step);
    quantized_scratch_.resize(static_cast<size_t>(pool.size()));
    bf16_scratch_.resize(static_cast<size_t>(pool.size()));
  }

  std::unique_ptr<Session> new_session(size_t max_tokens) const override {
    if (max_tokens > program_.max_positions)
      fail(ExitCode::kUsage, "{}: a session of {} tokens: the model has {} positions", model_.path(), max_tokens,
           program_.max_positions);
    return std::make_unique<KvCache>(this, program_.caches, max_tokens, options_.numerics.cache);
  }

  void forward(Session& session, std::span<const TokenId> tokens, size_t n_logits, std::span<float> logits) override {
    KvCache& cache = cache_of(session, tokens.size());
    if (n_logits > tokens.size() || logits.size() < n_logits * program_.n_vocab)
      fail(ExitCode::kUsage, "logits of {} tokens into {} floats: {} tokens given, {} floats each", n_logits,
           logits.size(), tokens.size(), program_.n_vocab);
    const size_t silent = tokens.size() - n_logits;
    for (size_t begin = 0; begin < tokens.size(); begin += kMaxBatch) {
      throw_if_interrupted();
      Batch batch;
      batch.append(cache, tokens.subspan(begin, std::min(kMaxBatch, tokens.size() - begin)));
      batch.first_logits = std::clamp(silent, begin, begin + batch.n) - begin;
      batch.logits = logits.data() +
                     (begin + batch.first_logits - std::min(silent, begin + batch.first_logits)) * program_.n_vocab;
      run(batch, 0, program_.steps.size());
      cache.advance(batch.n);
    }
  }

  size_t max_batch_tokens() const override { return kMaxBatch; }

  void forward_batch(std::span<const BatchPart> parts, std::span<float> logits) override {
    throw_if_interrupted();
    if (options_.editor) fail(ExitCode::kUsage, "edited activations: one sequence at a time");
    size_t n_tokens = 0, n_logits = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      const BatchPart& p = parts[i];
      if (!p.session || p.tokens.empty() || p.n_logits > p.tokens.size())
        fail(ExitCode::kUsage, "part {} of a batch: {} tokens, logits of {}: expected a session and at least one token", i,
             p.tokens.size(), p.n_logits);
      cache_of(*p.session, p.tokens.size());
      for (const BatchPart& other : parts.first(i))
        if (other.session == p.session) fail(ExitCode::kUsage, "part {} of a batch: its session comes twice", i);
      for (TokenId id : p.tokens)
        if (id < 0 || static_cast<size_t>(id) >= program_.n_vocab)
          fail(ExitCode::kBadInput, "token {}: the vocabulary has {}", id, program_.n_vocab);
      n_tokens += p.tokens.size();
      n_logits += p.n_logits;
    }
    if (parts.empty()) return;
    if (n_tokens > kMaxBatch || logits.size() < n_logits * program_.n_vocab)
      fail(ExitCode::kUsage, "a batch of {} tokens (at most {}), logits of {} tokens into {} floats: {} floats each",
           n_tokens, kMaxBatch, n_logits, logits.size(), program_.n_vocab);
    // All tokens without logits come first, so that those with logits are the rest.
    Batch batch;
    for (const BatchPart& p : parts)
      batch.append(cache_of(*p.session, 0), p.tokens.first(p.tokens.size() - p.n_logits));
    batch.first_logits = batch.n;
    for (const BatchPart& p : parts)
      batch.append(cache_of(*p.session, 0), p.tokens.last(p.n_logits), p.tokens.size() - p.n_logits);
    batch.logits = logits.data();
    run(batch, 0, program_.steps.size());
    for (const BatchPart& p : parts) cache_of(*p.session, 0).advance(p.tokens.size());
  }

  void run_steps(Session& session, std::span<const TokenId> tokens, size_t begin, size_t end,
                 std::span<const StageValue> in, std::span<const StageValue> out) override {
    throw_if_interrupted();
    session.truncate(0);
    KvCache& cache = cache_of(session, tokens.size());
    if (end > program_.steps.size() || begin > end)
      fail(ExitCode::kUsage, "steps {} to {}: the graph has {}", begin, end, program_.steps.size());
    Batch batch;
    batch.append_sequences(cache, tokens);
    batch.first_logits = batch.n;
    batch.is_partial = true;
    for (const StageValue& v : out) {
      if (v.id != model_.graph().logits) continue;
      if (out.size() > 1 || end < program_.steps.size() || v.first > batch.n)
        fail(ExitCode::kUsage, "logits are given alone, by the last step");
      batch.logits = v.data;
      batch.first_logits = v.first;
      batch.is_partial = false;
    }
    prepare(batch);
    for (const StageValue& v : in) std::copy_n(v.data, batch.n * width(v.id), rows(v.id, 0));
    run(batch, begin, end);
    if (!batch.is_partial) return;
    for (const StageValue& v : out) std::copy_n(rows(v.id, 0), batch.n * width(v.id), v.data);
  }

  void replace_weight(std::string_view name, const ModelTensor& tensor) override {
    const std::vector<Step*> changed = replace_tensor(program_, model_, name, tensor);
    if (changed.empty()) fail(ExitCode::kUsage, "{}: no operation uses a weight or bias named {}", model_.path(), name);
    for (Step* step : changed) {
      quantize_linear(*step);
      const size_t tile = std::max(step->linear ? step->linear->scratch_floats() : 0, step->experts ? step->experts->scratch_floats() : 0);
      for (auto& t : tiles_) t.resize(std::max(t.size(), tile));
    }
  }

  void forward_blocks(Session& session, std::span<const TokenId> tokens, size_t first, size_t last,
                      std::span<float> stream) override {
    throw_if_interrupted();
    KvCache& cache = cache_of(session, tokens.size());
    const size_t w = stream_width();
    if (w == 0)
      fail(ExitCode::kUnsupported, "{}: its blocks cannot be run one by one: more than one value passes between them",
           model_.path());
    const bool reads = first > 0, writes = last < n_blocks();
    if (first >= last || last > n_blocks() || ((reads || writes) && stream.size() < tokens.size() * w))
      fail(ExitCode::kUsage, "blocks {} to {} of {} on {} floats for {} tokens of {}", first, last, n_blocks(),
           stream.size(), tokens.size(), w);
    const size_t begin_step = reads ? program_.block_begin[first] : 0;
    const size_t end_step = writes ? program_.block_begin[last] : program_.steps.size();
    for (size_t begin = 0; begin < tokens.size(); begin += kMaxBatch) {
      Batch batch;
      batch.append(cache, tokens.subspan(begin, std::min(kMaxBatch, tokens.size() - begin)));
      batch.first_logits = batch.n;
      batch.is_partial = writes;
      if (reads) {
        prepare(batch);
        std::copy_n(stream.data() + begin * w, batch.n * w, rows(program_.streams[first], 0));
      }
      run(batch, begin_step, end_step);
      if (writes) std::copy_n(rows(program_.streams[last], 0), batch.n * w, stream.data() + begin * w);
      cache.advance(batch.n);
    }
  }

  size_t n_blocks() const override { return program_.block_begin.empty() ? 0 : program_.block_begin.size() - 1; }
  size_t stream_width() const override { return program_.streams.empty() ? 0 : width(program_.streams[0]); }

  size_t n_vocab() const override { return program_.n_vocab; }

  uint64_t scratch_bytes() const override {
    uint64_t floats = rounded_.size() + expert_in_.size() + expert_out_.size();
    for (const auto& b : buffers_) floats += b.size();
    for (const auto& t : tiles_) floats += t.size();
    uint64_t bytes = floats * sizeof(float) + attention_scratch_.size_bytes() + program_.size_bytes();
    for (const QuantizedScratch& q : quantized_scratch_) bytes += q.size_bytes();
    for (const Bf16Scratch& b : bf16_scratch_) bytes += b.size_bytes();
    return bytes + bf16_inputs_.size_bytes() + int8_.size_bytes() + inputs_.size_bytes() + expert_inputs_.size_bytes() +
           quantized_bytes();
  }

  uint64_t quantized_bytes() const override { return program_.quantized_bytes(); }

 private:
  using Batch = TokenBatch;

  size_t width(ValueId value) const { return model_.graph().widths[static_cast<size_t>(value)]; }
  float* rows(ValueId value, size_t first) {
    return buffers_[program_.buffer_of[static_cast<size_t>(value)]].data() + first * width(value);
  }

  // f(token) for tokens [first, n), on all threads when there are enough values.
  template <class Fn>
  void each_token(size_t first, size_t n, size_t token_width, Fn f) {
    if ((n - first) * token_width < kWorthThreads) {
      for (size_t t = first; t < n; ++t) f(t);
      return;
    }
    const size_t chunk = std::max<size_t>(1, kWorthThreads / 4 / token_width);
    pool_.parallel_for((n - first + chunk - 1) / chunk, [&](size_t item, int) {
      const size_t end = std::min(n, first + (item + 1) * chunk);
      for (size_t t = first + item * chunk; t < end; ++t) f(t);
    });
  }

  KvCache& cache_of(Session& session, size_t n_tokens) const {
    auto* cache = dynamic_cast<KvCache*>(&session);
    if (!cache || cache->owner() != this) fail(ExitCode::kUsage, "a session of another engine");
    if (n_tokens > cache->capacity() - cache->n_past())
      fail(ExitCode::kUsage, "the context is full: {} tokens after {}: room for {}", n_tokens, cache->n_past(),
           cache->capacity());
    return *cache;
  }

  void prepare(const Batch& batch) {
    for (size_t b = 0; b < buffers_.size(); ++b)
      if (buffers_[b].size() < batch.n * program_.buffer_widths[b])
        buffers_[b].resize(batch.n * program_.buffer_widths[b]);
    size_t n_positions = 0, capacity = 0;
    for (const Batch::Run& r : batch.runs) {
      n_positions = std::max(n_positions, r.position + r.n);
      capacity = std::max(capacity, r.cache->capacity());
    }
    for (RopeTable& rope : program_.ropes) rope.reserve(n_positions, capacity);
    rounded_of_ = inputs_of_ = int8_of_ = edited_of_ = kNoValue;
  }

  // Steps [begin, end).
  void run(const Batch& batch, size_t begin, size_t end) {
    prepare(batch);
    for (size_t i = begin; i < end; ++i) {
      // From the last attention on tokens do not see each other's results: only those with logits go on, unless
      // somebody watches or further blocks follow.
      const bool is_head = i + 1 == program_.steps.size();
      const bool last_attention = program_.has_attention && i == program_.last_attention;
      const bool alone = !program_.has_attention || i >= program_.last_attention;
      const bool all = options_.observer || batch.is_partial;
      const size_t first = is_head || (alone && !all) ? batch.first_logits : 0;
      if (is_head && options_.observer) observe(program_.steps[i], batch, 0);
      if (first < batch.n || last_attention) run(program_.steps[i], batch, first);  // keys and values are always stored
    }
  }

  // Tokens [first, n) of one step.
  void run(const Step& step, const Batch& batch, size_t first) {
    const Op& op = *step.op;
    const Kernels& k = kernels();
    const size_t n = batch.n, w = width(op.output);
    const auto in = [&](size_t i, size_t t) { return rows(op.inputs[i], t); };
    switch (op.kind) {
      case OpKind::kEmbed:
        embed(step, batch);
        break;
      case OpKind::kAddPosition:
        add_positions(step, batch, first);
        break;
      case OpKind::kRmsNorm:
      case OpKind::kLayerNorm:
        normalize(step, first, n);
        break;
      case OpKind::kLinear:
        linear(step, batch, first);
        break;
      case OpKind::kSlice:
        each_token(first, n, w, [&](size_t t) { slice(op, in(0, t), rows(op.output, t), w); });
        break;
      case OpKind::kConcat: {
        const size_t wide = width(op.inputs[0]), more = width(op.inputs[1]);
        each_token(first, n, w, [&](size_t t) { concat(op, in(0, t), wide, in(1, t), more, rows(op.output, t)); });
        break;
      }
      case OpKind::kRope:
        each_token(first, n, w, [&](size_t t) {
          program_.ropes[static_cast<size_t>(op.rope)].rotate(in(0, t), rows(op.output, t),
                                                              batch.rows[t].position, op.n_heads, op.head_dim);
        });
        break;
      case OpKind::kAttention:
        attention(step, batch, first);
        break;
      case OpKind::kScale:
        each_token(first, n, w, [&](size_t t) {
          const float* x = in(0, t);
          float* y = rows(op.output, t);
          for (size_t i = 0; i < w; ++i) y[i] = x[i] * op.scale;
        });
        break;
      case OpKind::kSiluMul:
      case OpKind::kGeluMul:
      case OpKind::kSwigluOai:
        each_token(first, n, w, [&](size_t t) { gate(op.kind, in(0, t), in(1, t), rows(op.output, t), w); });
        break;
      case OpKind::kGelu:
      case OpKind::kGeluErf:
      case OpKind::kRelu:
        each_token(first, n, w, [&](size_t t) { activate(op.kind, in(0, t), rows(op.output, t), w); });
        break;
      case OpKind::kRoute:
        each_token(first, n, op.n_experts, [&](size_t t) {
          route_token(op, step.bias, in(0, t), rows(op.output, t));
        });
        break;
      case OpKind::kHeads:
        each_token(first, n, w, [&](size_t t) {
          float* y = rows(op.output, t);
          for (size_t i = 0; i < op.n_used; ++i) y[i] = static_cast<float>(i);
          std::fill_n(y + op.n_used, op.n_used, 1.0f);
        });
        break;
      case OpKind::kExpertLinear:
        expert_linear(step, batch, first);
        break;
      case OpKind::kExpertSum:
        each_token(first, n, w, [&](size_t t) {
          const float *x = in(0, t), *weights = in(1, t) + op.n_used;
          float* y = rows(op.output, t);
          std::fill(y, y + w, 0.0f);
          for (size_t s = 0; s < op.n_used; ++s)
            if (weights[s] != 0) k.axpy(weights[s] * op.scale, x + s * w, y, w);
        });
        break;
      case OpKind::kAdd:
        each_token(first, n, w, [&](size_t t) { k.add(in(0, t), in(1, t), rows(op.output, t), w); });
        break;
    }
    if (op.output == rounded_of_) rounded_of_ = kNoValue;
    if (op.output == inputs_of_) inputs_of_ = kNoValue;
    if (op.output == int8_of_) int8_of_ = kNoValue;
    if (op.output == edited_of_) edited_of_ = kNoValue;
  }

  void embed(const Step& step, const Batch& batch) {
    const size_t w = width(step.op->output);
    for (const Batch::Row& row : batch.rows)
      if (row.token < 0 || static_cast<uint64_t>(row.token) >= step.table->n_rows())
        fail(ExitCode::kBadInput, "token {}: the vocabulary has {}", row.token, step.table->n_rows());
    each_token(0, batch.n, w, [&](size_t t) {
      step.table->read_rows(static_cast<uint64_t>(batch.rows[t].token), 1, rows(step.op->output, t));
    });
  }

  void add_positions(const Step& step, const Batch& batch, size_t first) {
    const size_t w = width(step.op->output);
    each_token(first, batch.n, w, [&](size_t t) {
      float* out = rows(step.op->output, t);
      step.table->read_rows(batch.rows[t].position + step.op->offset, 1, out);
      kernels().add(rows(step.op->inputs[0], t), out, out, w);
    });
  }

  void normalize(const Step& step, size_t first, size_t n) {
    const Op& op = *step.op;
    const size_t w = width(op.output), slice = op.head_dim > 0 ? op.head_dim : w;
    const float* weight = step.weight.empty() ? nullptr : step.weight.data();
    const float* bias = step.bias.empty() ? nullptr : step.bias.data();
    each_token(first, n, w, [&](size_t t) {
      const float* x = rows(op.inputs[0], t);
      float* y = rows(op.output, t);
      for (size_t i = 0; i < w; i += slice) {
        if (op.kind == OpKind::kRmsNorm)
          kernels().rms_norm(x + i, weight, y + i, slice, op.eps);
        else
          kernels().layer_norm(x + i, weight, bias, y + i, slice, op.eps);
      }
    });
  }

  void linear(const Step& step, const Batch& batch, size_t first) {
    product(step, batch, first);
    const Op& op = *step.op;
    if (op.softcap == 0) return;
    const size_t w = width(op.output);
    float* y = op.output == model_.graph().logits ? batch.logits : rows(op.output, first);
    each_token(0, batch.n - first, w, [&](size_t t) { soft_cap(op.softcap, y + t * w, w); });
  }

  // Gathers the tokens of each expert, multiplies, and puts the results into their slots.
  void expert_linear(const Step& step, const Batch& batch, size_t first) {
    const Op& op = *step.op;
    const ExpertLinear& experts = *step.experts;
    const size_t n_cols = experts.n_cols(), n_rows = experts.n_rows();
    const auto slots = slots_by_expert(rows(op.inputs[1], first), batch.n - first, op.n_used, op.n_experts);
    const bool is_edited = options_.editor && options_.editor->edits(op);
    const float* inputs = is_edited ? edited(op, batch, first) : rows(op.inputs[0], first);
    const size_t w = width(op.inputs[0]);
    for (size_t e = 0; e < slots.size(); ++e) {
      const size_t n = slots[e].size();
      if (expert_in_.size() < n * n_cols) expert_in_.resize(n * n_cols);
      if (expert_out_.size() < n * n_rows) expert_out_.resize(n * n_rows);
      each_token(0, n, n_cols, [&](size_t i) {
        const auto [token, slot] = slots[e][i];
        const float* x = inputs + token * w + (op.by_slots ? slot * n_cols : 0);
        std::copy_n(x, n_cols, expert_in_.data() + i * n_cols);
      });
      if (options_.observer) options_.observer->on_expert_input(op, e, expert_in_.data(), n, n_cols);
      if (n == 0) continue;
      if (step.quantized_experts.empty())
        expert_product(experts.expert(e), n);
      else
        quantized_expert_product(*step.quantized_experts[e], n, n_cols);
      const float* bias = experts.bias(e);
      each_token(0, n, n_rows, [&](size_t i) {
        const auto [token, slot] = slots[e][i];
        float* y = rows(op.output, first + token) + slot * n_rows;
        std::copy_n(expert_out_.data() + i * n_rows, n_rows, y);
        if (bias) kernels().add(y, bias, y, n_rows);
      });
    }
  }

  void quantized_expert_product(const QuantizedLinear& expert, size_t n, size_t n_cols) {
    expert_inputs_.assign(expert_in_.data(), n, n_cols, options_.numerics, expert.static_magnitude(), expert.as_codes(), pool_);
    expert.run(expert_inputs_, expert_out_.data(), quantized_scratch_, pool_);
  }

  // expert_in_ (n, n_cols) → expert_out_ (n, n_rows).
  void expert_product(const Linear& linear, size_t n) {
    float *x = expert_in_.data(), *y = expert_out_.data();
    const size_t n_cols = linear.n_cols();
    const ActRounding rounding = options_.act_int8 ? linear.rounding() : ActRounding::kNone;
    if (options_.act_int8 && has_packed_product(linear)) {
      expert_int8_.assign(x, n, n_cols, rounding, pool_);
      return run_packed(linear, expert_int8_, y, n, tiles_, pool_);
    }
    if (rounding != ActRounding::kNone)
      each_token(0, n, n_cols, [&](size_t t) { round_activations(rounding, x + t * n_cols, x + t * n_cols, n_cols); });
    if (n == 1 && has_float_product(linear)) return run_floats(linear, x, y, pool_);
    linear.run(x, y, n, tiles_, pool_);
  }

  void product(const Step& step, const Batch& batch, size_t first) {
    const Op& op = *step.op;
    const float* x = rows(op.inputs[0], first);
    const bool is_head = op.output == model_.graph().logits;
    if (options_.observer && !is_head) observe(step, batch, first);  // the head's input has been shown
    if (step.quantized) return quantized_linear(step, batch, first);
    if (options_.editor && options_.editor->edits(op)) x = edited(op, batch, first);
    if (options_.bf16_products && !options_.act_int8 && !is_head && step.linear->runs_bf16() &&
        batch.n - first >= kWorthBf16)
      return bf16_linear(step, batch, first);
    const ActRounding rounding = options_.act_int8 ? step.linear->rounding() : ActRounding::kNone;
    float* y = is_head ? batch.logits : rows(op.output, first);
    if (options_.act_int8 && has_packed_product(*step.linear))
      return run_packed(*step.linear, int8_inputs(op.inputs[0], rounding, first, batch.n), y, batch.n - first, tiles_,
                        pool_);
    if (rounding != ActRounding::kNone) x = rounded(op.inputs[0], rounding, first, batch.n);
    if (batch.n - first == 1 && has_float_product(*step.linear)) return run_floats(*step.linear, x, y, pool_);
    step.linear->run(x, y, batch.n - first, tiles_, pool_);
  }

  // The rounded input is kept while the next linears read the same value.
  void bf16_linear(const Step& step, const Batch& batch, size_t first) {
    const Op& op = *step.op;
    if (inputs_of_ != op.inputs[0] || inputs_first_ != first) {
      bf16_inputs_.assign(rows(op.inputs[0], first), batch.n - first, step.linear->n_cols(), pool_);
      inputs_of_ = op.inputs[0];
      inputs_first_ = first;
    }
    step.linear->run_bf16(bf16_inputs_, rows(op.output, first), bf16_scratch_, pool_);
  }

  void observe(const Step& step, const Batch& batch, size_t first) {
    options_.observer->on_linear_input(*step.op, rows(step.op->inputs[0], first), batch.n - first,
                                       step.linear->n_cols());
  }

  void quantize_linear(Step& step) {
    const bool is_head = step.op->output == model_.graph().logits;
    if (!options_.numerics.linears() || (is_head && !options_.numerics.with_head)) return;
    if (step.experts) {
      step.quantized_experts.clear();
      for (size_t e = 0; e < step.experts->n_experts(); ++e)
        step.quantized_experts.push_back(
            std::make_unique<QuantizedLinear>(step.experts->expert(e), step.op->weight, options_.numerics, pool_));
    }
    if (!step.linear || !step.linear->weight().spec().quantizable) return;  // routers
    step.quantized = std::make_unique<QuantizedLinear>(*step.linear, step.op->weight, options_.numerics, pool_);
  }

  // The input in its scheme is kept while the next linears read the same value.
  void quantized_linear(const Step& step, const Batch& batch, size_t first) {
    const Op& op = *step.op;
    if (inputs_of_ != op.inputs[0] || inputs_first_ != first) {
      inputs_.assign(rows(op.inputs[0], first), batch.n - first, step.linear->n_cols(), options_.numerics,
                     step.quantized->static_magnitude(), step.quantized->as_codes(), pool_);
      inputs_of_ = op.inputs[0];
      inputs_first_ = first;
    }
    float* y = op.output == model_.graph().logits ? batch.logits : rows(op.output, first);
    step.quantized->run(inputs_, y, quantized_scratch_, pool_);
  }

  // Tokens [first, n) of a value in 8-bit codes; kept while the next linears read the same value.
  const Int8Inputs& int8_inputs(ValueId value, ActRounding rounding, size_t first, size_t n) {
    if (int8_of_ != value || int8_as_ != rounding || int8_first_ != first) {
      int8_.assign(rows(value, first), n - first, width(value), rounding, pool_);
      int8_of_ = value;
      int8_as_ = rounding;
      int8_first_ = first;
    }
    return int8_;
  }

  // Tokens [first, n) of a linear's input as the editor wants it; kept while the next linears read the same value.
  const float* edited(const Op& op, const Batch& batch, size_t first) {
    const ValueId value = op.inputs[0];
    const size_t w = width(value), n = batch.n - first;
    if (edited_of_ != value || edited_first_ != first) {
      edited_.assign(rows(value, first), rows(value, first) + n * w);
      options_.editor->edit(op, edited_.data(), n, w, batch.rows[first].position);
      edited_of_ = value;
      edited_first_ = first;
    }
    return edited_.data();
  }

  // Tokens [first, n) of a value, rounded; kept while the next linears read the same value.
  const float* rounded(ValueId value, ActRounding rounding, size_t first, size_t n) {
    const size_t w = width(value);
    if (rounded_.size() < n * w) rounded_.resize(n * w);
    if (rounded_of_ != value || rounded_as_ != rounding || rounded_first_ != first) {
      each_token(first, n, w,
                 [&](size_t t) { round_activations(rounding, rows(value, t), rounded_.data() + t * w, w); });
      rounded_of_ = value;
      rounded_as_ = rounding;
      rounded_first_ = first;
    }
    return rounded_.data() + first * w;
  }

  void attention(const Step& step, const Batch& batch, size_t first) {
    const Op& op = *step.op;
    const CacheLayer& shape = batch.runs.front().cache->layer(step.attention_index);
    const size_t width_k = shape.n_kv_heads * shape.head_dim, width_v = shape.n_kv_heads * shape.value_dim;
    const auto store = [&](size_t t) {
      float* k = rows(op.inputs[1], t);
      float* v = rows(op.inputs[2], t);
      if (options_.kv_f16) {
        round_to_f16(k, width_k);
        round_to_f16(v, width_v);
      }
      batch.runs[batch.rows[t].run].cache->layer(step.attention_index).store(k, v, batch.rows[t].position);
    };
    if (!batch.shares_cache) each_token(0, batch.n, width_k + width_v, store);
    for (const Batch::Run& r : batch.runs) {
      if (batch.shares_cache) each_token(r.row, r.row + r.n, width_k + width_v, store);  // the run before has been read
      const size_t begin = std::max(first, r.row);
      if (begin >= r.row + r.n) continue;
      attend(step.attention, r.cache->layer(step.attention_index), r.position + begin - r.row, rows(op.inputs[0], begin),
             rows(op.output, begin), r.row + r.n - begin, attention_scratch_, pool_);
    }
  }

  static void round_to_f16(float* x, size_t n) {
    for (size_t i = 0; i < n; ++i) x[i] = f16_to_f32(f32_to_f16(x[i]));
  }

  const Model& model_;
  ThreadPool& pool_;
  EngineOptions options_;
  Program program_;
  std::vector<AlignedVector<float>> buffers_, tiles_;  // values; decoded weights, one for each worker
  AttentionScratch attention_scratch_;
  AlignedVector<float> rounded_, edited_, expert_in_, expert_out_;
  // Which value, from which token on, the changed inputs are of.
  ValueId edited_of_ = kNoValue, rounded_of_ = kNoValue, int8_of_ = kNoValue, inputs_of_ = kNoValue;
  size_t edited_first_ = 0, rounded_first_ = 0, int8_first_ = 0, inputs_first_ = 0;
  Int8Inputs expert_int8_;
  ActRounding rounded_as_ = ActRounding::kNone;
  Int8Inputs int8_;
  ActRounding int8_as_ = ActRounding::kNone;
  QuantizedInputs inputs_, expert_inputs_;
  std::vector<QuantizedScratch> quantized_scratch_;
  Bf16Inputs bf16_inputs_;
  std::vector<Bf16Scratch> bf16_scratch_;
};

}  // namespace

std::unique_ptr<Engine> Engine::make(const Model& model, ThreadPool& pool, const EngineOptions& options) {
  return std::make_unique<GraphEngine>(model, pool, options);
}

}  // namespace tsubu
