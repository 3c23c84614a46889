#include "gradient/backward.h"

#include <algorithm>

#include "base/error.h"
#include "base/progress.h"
#include "engine/elementwise.h"
#include "engine/kv_cache.h"
#include "engine/linear.h"
#include "gradient/elementwise_gradient.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr size_t kLogitFloats = size_t{1} << 24;  // of the head at a time
constexpr size_t kTokens = 16;                    // of one item of elementwise work

EngineOptions engine_options(const BackwardOptions& options) {
  EngineOptions engine;
  engine.numerics = options.numerics;
  engine.bf16_products = options.bf16_products && !options.numerics.any();
  return engine;
}

}  // namespace

Backward::Backward(const Model& model, ThreadPool& pool, const BackwardOptions& options)
    : model_(model),
      graph_(model.graph()),
      pool_(pool),
      numerics_(options.numerics),
      engine_(Engine::make(model, pool, engine_options(options))),
      bf16_products_(options.bf16_products),
      linears_(options.bf16_products) {
  for (const RopeSpec& spec : graph_.ropes) ropes_.emplace_back(spec);
  const size_t head = graph_.ops.size() - 1;  // the engine has checked that there is one
  for (size_t i = 0; i < head; ++i)
    if (i == 0 || graph_.ops[i].layer != graph_.ops[i - 1].layer) cuts_.push_back(i);
  cuts_.push_back(head);
  head_tokens_ = tokens_of_head(engine_->n_vocab());
  tiles_.resize(static_cast<size_t>(pool.size()));
}

const ModelTensor& Backward::weight(const std::string& name) const {
  const auto found = replaced_.find(name);
  return found == replaced_.end() ? model_.tensor(name) : *found->second;
}

void Backward::replace_weight(const std::string& name, const ModelTensor& tensor) {
  engine_->replace_weight(name, tensor);
  replaced_[name] = &tensor;
  vectors_.erase(name);
}

size_t Backward::tokens_of_head(size_t n_vocab) { return std::max<size_t>(kTokens, kLogitFloats / n_vocab / kTokens * kTokens); }

Backward::Buffer Backward::take_logits(size_t n_tokens) {
  return lent_.take(std::min(head_tokens_, std::max(n_tokens, reserved_)) * n_vocab());
}

void Backward::release() {
  forget();
  lent_.clear();
  session_.reset();
  linears_ = LinearGradient(bf16_products_);
  attentions_ = AttentionGradient();
  experts_ = ExpertLinearGradient();
}

void Backward::forget() {
  for (auto* buffers : {&values_, &gradients_}) {
    for (auto& [value, buffer] : *buffers) give(std::move(buffer));
    buffers->clear();
  }
}

void Backward::each_token(size_t n_tokens, const std::function<void(size_t first, size_t n)>& f) {
  pool_.parallel_for((n_tokens + kTokens - 1) / kTokens, [&](size_t item, int) {
    f(item * kTokens, std::min(kTokens, n_tokens - item * kTokens));
  });
}

// The segment's values from those at its boundary: all of them, or only those at its end.
void Backward::forward_segment(size_t segment, std::span<const TokenId> tokens, bool keep_all) {
  const size_t begin = cuts_[segment], end = cuts_[segment + 1];
  const auto run = [&](size_t from, size_t to, const std::vector<ValueId>& reads, const std::vector<ValueId>& writes) {
    std::vector<StageValue> in, out;
    for (ValueId v : reads) in.push_back({v, values_.at(v).data()});
    for (ValueId v : writes) {
      if (!values_.contains(v)) values_[v] = take(tokens.size(), width(v));
      out.push_back({v, values_.at(v).data()});
    }
    engine_->run_steps(*session_, tokens, from, to, in, out);
  };
  if (!keep_all) {
    std::vector<ValueId> reads, writes;
    for (ValueId v : live_values(graph_, begin)) reads.push_back(v);
    for (ValueId v : live_values(graph_, end))
      if (!values_.contains(v)) writes.push_back(v);
    return run(begin, end, reads, writes);
  }
  for (size_t i = begin; i < end; ++i) {
    std::vector<ValueId> reads = graph_.ops[i].inputs;
    std::sort(reads.begin(), reads.end());
    reads.erase(std::unique(reads.begin(), reads.end()), reads.end());
    run(i, i + 1, reads, {graph_.ops[i].output});
  }
}

void Backward::begin(std::span<const TokenId> tokens, size_t first, std::span<const uint32_t> starts) {
  throw_if_interrupted();
  if (tokens.empty() || first >= tokens.size())
    fail(ExitCode::kUsage, "a loss from token {} of a window of {}", first, tokens.size());
  starts_.assign(starts.begin(), starts.end());
  if (starts_.empty()) starts_.push_back(0);
  positions_.clear();
  for (size_t i = 0; i < starts_.size(); ++i) {
    const size_t end = i + 1 < starts_.size() ? starts_[i + 1] : tokens.size();
    if (starts_[i] != positions_.size() || starts_[i] >= end || end > tokens.size())
      fail(ExitCode::kUsage, "sequence {} of a window of {} tokens: from {} to {}", i, tokens.size(), starts_[i], end);
    for (size_t t = starts_[i]; t < end; ++t) positions_.push_back(static_cast<uint32_t>(t - starts_[i]));
  }
  const size_t capacity = std::max(tokens.size(), reserved_);
  if (!session_ || session_->capacity() < capacity) {
    session_.reset();
    session_ = engine_->new_session(capacity);
  }
  dynamic_cast<KvCache&>(*session_).set_starts(starts_.size() > 1 ? std::span<const uint32_t>(starts_) : std::span<const uint32_t>());
  forget();
}

double Backward::forward(std::span<const TokenId> tokens, size_t first, const LogitLoss& loss, std::span<const uint32_t> starts) {
  begin(tokens, first, starts);
  for (size_t s = 0; s + 1 < cuts_.size(); ++s) forward_segment(s, tokens, false);
  const double sum = head(tokens, first, loss, nullptr);
  forget();
  return sum;
}

double Backward::run(std::span<const TokenId> tokens, size_t first, const LogitLoss& loss, GradientSink& sink,
                     std::span<const uint32_t> starts) {
  begin(tokens, first, starts);
  for (RopeTable& rope : ropes_) rope.reserve(tokens.size(), session_->capacity());
  uint64_t floats = 0;
  for (uint32_t w : graph_.widths) floats += w;
  const bool is_kept = floats * std::max(tokens.size(), reserved_) * sizeof(float) <= kept_bytes_;
  for (size_t s = 0; s + 1 < cuts_.size(); ++s) forward_segment(s, tokens, is_kept);
  const double sum = head(tokens, first, loss, &sink);
  for (size_t s = cuts_.size() - 1; s-- > 0;) backward_segment(s, tokens, sink, is_kept);
  forget();
  return sum;
}

// Logits of some tokens at a time; without a sink only their loss.
double Backward::head(std::span<const TokenId> tokens, size_t first, const LogitLoss& loss, GradientSink* sink) {
  const Op& op = graph_.ops.back();
  const ValueId input = op.inputs[0];
  const size_t n = tokens.size(), n_cols = width(input), n_vocab = width(op.output);
  const Linear linear(weight(op.weight), op.bias.empty() ? nullptr : &weight(op.bias));
  for (auto& tile : tiles_)
    if (tile.size() < linear.scratch_floats()) tile.resize(linear.scratch_floats());
  Buffer logits = take_logits(n - first);
  Buffer capped;
  if (sink && op.softcap != 0) capped = take_logits(n - first);
  Buffer g;
  if (sink) {
    g = take(n, n_cols);
    std::fill(g.begin(), g.begin() + static_cast<std::ptrdiff_t>(first * n_cols), 0.0f);
  }
  double sum = 0;
  for (size_t begin = first; begin < n; begin += head_tokens_) {
    const size_t count = std::min(head_tokens_, n - begin);
    const float* x = values_.at(input).data() + begin * n_cols;
    linear.run(x, logits.data(), count, tiles_, pool_);
    if (op.softcap != 0) {
      each_token(count, [&](size_t t, size_t some) { soft_cap(op.softcap, logits.data() + t * n_vocab, some * n_vocab); });
      if (sink) std::copy_n(logits.data(), count * n_vocab, capped.data());
    }
    sum += loss(begin, count, logits.data());
    if (!sink) continue;
    if (op.softcap != 0)
      each_token(count, [&](size_t t, size_t some) {
        float* at = logits.data() + t * n_vocab;
        soft_cap_gradient(op.softcap, capped.data() + t * n_vocab, at, some * n_vocab, at);
      });
    sink->on_linear(op, x, logits.data(), count, n_cols, n_vocab);
    linears_.input(weight(op.weight), logits.data(), count, g.data() + begin * n_cols, pool_);
  }
  give(std::move(logits));
  if (!capped.empty()) give(std::move(capped));
  if (sink) gradients_[input] = std::move(g);
  return sum;
}

void Backward::backward_segment(size_t segment, std::span<const TokenId> tokens, GradientSink& sink,
                                bool is_kept) {
  throw_if_interrupted();
  if (!is_kept) forward_segment(segment, tokens, true);
  for (size_t i = cuts_[segment + 1]; i-- > cuts_[segment];) {
    const Op& op = graph_.ops[i];
    const auto g = gradients_.find(op.output);
    if (g != gradients_.end()) backward_op(op, tokens, sink);
    // Nothing before this operation reads its output.
    for (auto* buffers : {&values_, &gradients_}) {
      const auto found = buffers->find(op.output);
      if (found == buffers->end()) continue;
      give(std::move(found->second));
      buffers->erase(found);
    }
  }
}

void Backward::add_gradient(ValueId value, Buffer&& g, size_t n_tokens) {
  const auto [found, is_new] = gradients_.try_emplace(value);
  if (is_new) {
    found->second = std::move(g);
    return;
  }
  float* sum = found->second.data();
  const size_t w = width(value);
  each_token(n_tokens, [&](size_t first, size_t n) {
    kernels().add(sum + first * w, g.data() + first * w, sum + first * w, n * w);
  });
  give(std::move(g));
}

void Backward::backward_op(const Op& op, std::span<const TokenId> tokens, GradientSink& sink) {
  const size_t n = tokens.size(), w = width(op.output);
  const float* g = gradients_.at(op.output).data();
  const auto input = [&](size_t i) -> const float* { return values_.at(op.inputs[i]).data(); };
  switch (op.kind) {
    case OpKind::kEmbed:
      if (sink.wants_vectors()) sink.on_rows(op, tokens, g, w);
      return;
    case OpKind::kAddPosition: {
      if (sink.wants_vectors()) {
        std::vector<TokenId> positions(n);
        for (size_t t = 0; t < n; ++t) positions[t] = static_cast<TokenId>(positions_[t] + op.offset);
        sink.on_rows(op, positions, g, w);
      }
      Buffer copy = take(n, w);
      std::copy_n(g, n * w, copy.data());
      return add_gradient(op.inputs[0], std::move(copy), n);
    }
    case OpKind::kRmsNorm:
    case OpKind::kLayerNorm:
      return norm(op, n, sink);
    case OpKind::kLinear: {
      const size_t n_cols = width(op.inputs[0]);
      if (op.softcap != 0) {
        const float* y = values_.at(op.output).data();
        float* own = gradients_.at(op.output).data();
        each_token(n, [&](size_t first, size_t count) {
          soft_cap_gradient(op.softcap, y + first * w, own + first * w, count * w, own + first * w);
        });
      }
      const float* x = input(0);
      if (numerics_.activations) {
        rounded_.assign(x, n, n_cols, numerics_, 0, false, pool_);
        x = rounded_.values();
      }
      sink.on_linear(op, x, g, n, n_cols, w);
      Buffer gx = take(n, n_cols);
      linears_.input(weight(op.weight), g, n, gx.data(), pool_);
      return add_gradient(op.inputs[0], std::move(gx), n);
    }
    case OpKind::kScale: {
      Buffer gx = take(n, w);
      for (size_t i = 0; i < n * w; ++i) gx[i] = g[i] * op.scale;
      return add_gradient(op.inputs[0], std::move(gx), n);
    }
    case OpKind::kSlice: {
      const size_t whole = width(op.inputs[0]);
      const auto [found, is_new] = gradients_.try_emplace(op.inputs[0]);
      if (is_new) {
        found->second = take(n, whole);
        std::fill_n(found->second.data(), n * whole, 0.0f);
      }
      const size_t heads = op.head_dim > 0 ? op.n_heads : 1, part = w / heads;
      float* to = found->second.data() + op.offset;
      const float* from = gradients_.at(op.output).data();
      for (size_t t = 0; t < n; ++t)
        for (size_t h = 0; h < heads; ++h) {
          float* at = to + t * whole + h * op.head_dim;
          kernels().add(at, from + t * w + h * part, at, part);
        }
      return;
    }
    case OpKind::kConcat: {
      size_t offset = 0;
      for (const ValueId v : op.inputs) {
        const size_t whole = w / op.n_heads, part = width(v) / op.n_heads;
        Buffer gx = take(n, width(v));
        g = gradients_.at(op.output).data();
        for (size_t i = 0; i < n * op.n_heads; ++i) std::copy_n(g + i * whole + offset, part, gx.data() + i * part);
        add_gradient(v, std::move(gx), n);
        offset += part;
      }
      return;
    }
    case OpKind::kHeads:
      return;
    case OpKind::kRope: {
      Buffer gx = take(n, w);
      const RopeTable& rope = ropes_[static_cast<size_t>(op.rope)];
      each_token(n, [&](size_t first, size_t count) {
        for (size_t t = first; t < first + count; ++t)
          rope.rotate_gradient(g + t * w, gx.data() + t * w, positions_[t], op.n_heads, op.head_dim);
      });
      return add_gradient(op.inputs[0], std::move(gx), n);
    }
    case OpKind::kAttention:
      return attention(op, n, sink);
    case OpKind::kSiluMul:
    case OpKind::kGeluMul:
    case OpKind::kSwigluOai: {
      Buffer g_gate = take(n, w), g_up = take(n, w);
      each_token(n, [&](size_t first, size_t count) {
        const size_t at = first * w;
        gate_gradient(op.kind, input(0) + at, input(1) + at, g + at, count * w, g_gate.data() + at, g_up.data() + at);
      });
      add_gradient(op.inputs[0], std::move(g_gate), n);
      return add_gradient(op.inputs[1], std::move(g_up), n);
    }
    case OpKind::kGelu:
    case OpKind::kGeluErf:
    case OpKind::kRelu: {
      Buffer gx = take(n, w);
      each_token(n, [&](size_t first, size_t count) {
        activation_gradient(op.kind, input(0) + first * w, g + first * w, count * w, gx.data() + first * w);
      });
      return add_gradient(op.inputs[0], std::move(gx), n);
    }
    case OpKind::kAdd:
      for (ValueId v : op.inputs) {
        Buffer copy = take(n, w);
        std::copy_n(gradients_.at(op.output).data(), n * w, copy.data());
        add_gradient(v, std::move(copy), n);
      }
      return;
    case OpKind::kRoute:
      return route(op, n);
    case OpKind::kExpertLinear:
      return expert_linear(op, n, sink);
    case OpKind::kExpertSum:
      return expert_sum(op, n);
  }
}

const std::vector<float>& Backward::vector_of(const std::string& name) {
  std::vector<float>& vector = vectors_[name];
  if (vector.empty()) vector = read_vector(weight(name));
  return vector;
}

void Backward::norm(const Op& op, size_t n, GradientSink& sink) {
  const size_t w = width(op.output), slice = op.head_dim > 0 ? op.head_dim : w;
  const bool is_rms = op.kind == OpKind::kRmsNorm, wants = sink.wants_vectors();
  const float* gains = op.weight.empty() ? nullptr : vector_of(op.weight).data();
  const float* x = values_.at(op.inputs[0]).data();
  const float* g = gradients_.at(op.output).data();
  Buffer gx = take(n, w);
  // Sums of the vectors' gradients, one part for each item of tokens.
  const size_t n_parts = wants ? (n + kTokens - 1) / kTokens : 0;
  std::vector<float> gain_parts(n_parts * slice), shift_parts(is_rms ? 0 : n_parts * slice);
  each_token(n, [&](size_t first, size_t count) {
    float* gain = wants ? gain_parts.data() + first / kTokens * slice : nullptr;
    float* shift = wants && !is_rms ? shift_parts.data() + first / kTokens * slice : nullptr;
    for (size_t at = first * w; at < (first + count) * w; at += slice) {
      if (is_rms)
        rms_norm_gradient(x + at, gains, g + at, slice, op.eps, gx.data() + at, gain);
      else
        layer_norm_gradient(x + at, gains, g + at, slice, op.eps, gx.data() + at, gain, shift);
    }
  });
  if (wants) {
    for (auto* parts : {&gain_parts, &shift_parts})
      for (size_t i = slice; i < parts->size(); ++i) (*parts)[i % slice] += (*parts)[i];
    const bool has_shift = !is_rms && !op.bias.empty();
    sink.on_vectors(op, std::span(gain_parts).first(gains ? slice : 0), std::span(shift_parts).first(has_shift ? slice : 0));
  }
  add_gradient(op.inputs[0], std::move(gx), n);
}

void Backward::attention(const Op& op, size_t n, GradientSink& sink) {
  const AttentionShape shape = attention_shape(op, op.weight.empty() ? std::vector<float>() : vector_of(op.weight));
  Buffer g[3];
  for (size_t i = 0; i < 3; ++i) g[i] = take(n, width(op.inputs[i]));
  const float* in[3];
  std::vector<float> sinks(shape.sinks.size());
  for (size_t i = 0; i < 3; ++i) in[i] = values_.at(op.inputs[i]).data();
  const float* gy = gradients_.at(op.output).data();
  for (size_t s = 0; s < starts_.size(); ++s) {
    const size_t first = starts_[s], count = (s + 1 < starts_.size() ? starts_[s + 1] : n) - first;
    const auto from = [&](size_t i) { return first * width(op.inputs[i]); };
    attentions_.run(shape, in[0] + from(0), in[1] + from(1), in[2] + from(2), gy + first * width(op.output), count,
                    g[0].data() + from(0), g[1].data() + from(1), g[2].data() + from(2), pool_);
    if (!sinks.empty()) kernels().add(sinks.data(), attentions_.sink_gradients().data(), sinks.data(), sinks.size());
  }
  if (sink.wants_vectors() && !sinks.empty()) sink.on_vectors(op, sinks, {});
  for (size_t i = 0; i < 3; ++i) add_gradient(op.inputs[i], std::move(g[i]), n);
}

void Backward::route(const Op& op, size_t n) {
  const size_t n_scores = width(op.inputs[0]), w = width(op.output);
  const float *scores = values_.at(op.inputs[0]).data(), *route = values_.at(op.output).data();
  const float* g = gradients_.at(op.output).data();
  Buffer gx = take(n, n_scores);
  each_token(n, [&](size_t first, size_t count) {
    for (size_t t = first; t < first + count; ++t)
      route_gradient(op, scores + t * n_scores, route + t * w, g + t * w, gx.data() + t * n_scores);
  });
  add_gradient(op.inputs[0], std::move(gx), n);
}

void Backward::expert_linear(const Op& op, size_t n, GradientSink& sink) {
  const size_t w = width(op.inputs[0]), n_cols = op.by_slots ? w / op.n_used : w, n_rows = width(op.output) / op.n_used;
  Buffer gx = take(n, w);
  const auto visit = [&](size_t expert, const float* x, const float* g, size_t n_routed) {
    sink.on_expert(op, expert, x, g, n_routed, n_cols, n_rows);
  };
  experts_.run(op, weight(op.weight), values_.at(op.inputs[0]).data(), values_.at(op.inputs[1]).data(),
               gradients_.at(op.output).data(), n, gx.data(), visit, pool_);
  add_gradient(op.inputs[0], std::move(gx), n);
}

void Backward::expert_sum(const Op& op, size_t n) {
  const size_t w = width(op.output), w_x = width(op.inputs[0]), w_route = width(op.inputs[1]);
  const float *x = values_.at(op.inputs[0]).data(), *route = values_.at(op.inputs[1]).data();
  const float* g = gradients_.at(op.output).data();
  Buffer gx = take(n, w_x), g_route = take(n, w_route);
  each_token(n, [&](size_t first, size_t count) {
    for (size_t t = first; t < first + count; ++t)
      expert_sum_gradient(op, x + t * w_x, route + t * w_route, g + t * w, w, gx.data() + t * w_x,
                          g_route.data() + t * w_route);
  });
  add_gradient(op.inputs[0], std::move(gx), n);
  add_gradient(op.inputs[1], std::move(g_route), n);
}

uint64_t Backward::scratch_bytes() const {
  uint64_t floats = lent_.free_floats();
  for (const auto* buffers : {&values_, &gradients_})
    for (const auto& [value, buffer] : *buffers) floats += buffer.size();
  for (const auto& tile : tiles_) floats += tile.size();
  return floats * sizeof(float) + linears_.size_bytes() + attentions_.size_bytes() + experts_.size_bytes() + rounded_.size_bytes() +
         engine_->scratch_bytes() + (session_ ? session_->size_bytes() : 0);
}

}  // namespace tsubu
