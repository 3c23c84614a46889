// Two models run side by side over the calibration chunks: the float one (inputs x) and the one quantized so far
// (inputs x̃). For a group of linears that read one input, with T tokens,
//   H = Σ x̃ x̃ᵀ / T,  D = Σ (x - x̃) x̃ᵀ / T,  E = Σ (h - h̃) x̃ᵀ / T   (h: the residual stream that the output is added to)
//   W' = W + (W D + E)(H + λI)⁻¹
// minimizes the output error Σ |W x + h - (W' x̃ + h̃)|² up to the damping, and what is left of it is the quadratic form
// (W' - Ŵ) H (W' - Ŵ)ᵀ that the rounding methods work on. Source of the asymmetric target: Li et al. 2504.02692 (GPTAQ);
// its closed form and the residual term: own.
#include "pipeline/calibrated.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/progress.h"
#include "calibrate/gram.h"
#include "engine/engine.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr double kStoredWidth = 2.5;         // activations are kept where they are at most so many embeddings wide
constexpr size_t kSlabWeights = size_t{1} << 24;  // weights of a matrix in memory as floats

struct Group {
  size_t first_step = 0, last_step = 0;
  ValueId input = kNoValue;
  struct Linear {
    const Op* op;
    const PlannedTensor* plan;
    ValueId residual = kNoValue;  // what the output is added to
  };
  std::vector<Linear> linears;
};

// The value that op's output is added to and nothing else happens to it; kNoValue when there is none.
ValueId residual_of(const Graph& graph, const Op& linear) {
  ValueId residual = kNoValue;
  for (const Op& op : graph.ops) {
    const bool reads = std::find(op.inputs.begin(), op.inputs.end(), linear.output) != op.inputs.end();
    if (!reads) continue;
    if (op.kind != OpKind::kAdd || residual != kNoValue) return kNoValue;
    residual = op.inputs[0] == linear.output ? op.inputs[1] : op.inputs[0];
  }
  return residual;
}

std::vector<Group> groups_of(const Model& model, const std::vector<PlannedTensor>& plan) {
  std::map<std::string, const PlannedTensor*> planned;
  for (const PlannedTensor& p : plan) planned[p.tensor->name()] = &p;
  std::vector<Group> groups;
  std::map<ValueId, size_t> group_of;
  const Graph& graph = model.graph();
  for (size_t i = 0; i < graph.ops.size(); ++i) {
    const Op& op = graph.ops[i];
    if (op.kind != OpKind::kLinear) continue;
    const auto [it, is_new] = group_of.emplace(op.inputs[0], groups.size());
    if (is_new) groups.push_back({i, i, op.inputs[0], {}});
    Group& group = groups[it->second];
    group.last_step = i;
    group.linears.push_back({&op, planned.at(op.weight), residual_of(graph, op)});
  }
  return groups;
}

size_t width_of(const Graph& graph, const std::vector<ValueId>& values) {
  size_t width = 0;
  for (ValueId v : values) width += graph.widths[static_cast<size_t>(v)];
  return width;
}

// One model on its way through the graph: the activations of every chunk at `position`.
class Stream {
 public:
  Stream(const Model& model, const Corpus& corpus, ThreadPool& pool)
      : model_(model), corpus_(corpus), engine_(Engine::make(model, pool)), session_(engine_->new_session(corpus.context)), chunks_(corpus.chunks.size()) {}

  Engine& engine() { return *engine_; }

  // Chunk c from the kept position to step `end`; keeps the activations at `keep` on the way when that is further on.
  // wanted: values live at `end`.
  void advance(size_t chunk, size_t from, size_t keep, size_t end, const std::vector<ValueId>& wanted,
               std::map<ValueId, std::vector<float>>& out) {
    const auto& tokens = corpus_.chunks[chunk];
    if (keep > from) {
      std::map<ValueId, std::vector<float>> next;
      run(tokens, from, keep, chunks_[chunk], live_values(model_.graph(), keep), next);
      chunks_[chunk] = std::move(next);
      from = keep;
    }
    run(tokens, from, end, chunks_[chunk], wanted, out);
  }

 private:
  void run(const std::vector<TokenId>& tokens, size_t begin, size_t end, std::map<ValueId, std::vector<float>>& in,
           const std::vector<ValueId>& wanted, std::map<ValueId, std::vector<float>>& out) {
    std::vector<StageValue> inputs, outputs;
    for (ValueId v : live_values(model_.graph(), begin)) inputs.push_back({v, in.at(v).data()});
    for (ValueId v : wanted) {
      auto& data = out[v];
      data.resize(tokens.size() * model_.graph().widths[static_cast<size_t>(v)]);
      outputs.push_back({v, data.data()});
    }
    engine_->run_steps(*session_, tokens, begin, end, inputs, outputs);
  }

  const Model& model_;
  const Corpus& corpus_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Session> session_;
  std::vector<std::map<ValueId, std::vector<float>>> chunks_;
};

// Sums of one group's input over some of the chunks.
struct InputSums {
  GramAccumulator h;                      // x̃ x̃ᵀ
  std::optional<GramAccumulator> d;       // x̃ (x - x̃)ᵀ: D transposed
  std::map<ValueId, GramAccumulator> e;   // (h - h̃) x̃ᵀ, by residual value
  explicit InputSums(size_t n) : h(n, n, true) {}
};

class CalibratedRounding {
 public:
  CalibratedRounding(const Model& model, const std::vector<PlannedTensor>& plan, const Corpus& corpus,
                     const CalibratedOptions& options, ThreadPool& pool, std::vector<std::string>& notes)
      : model_(model), graph_(model.graph()), corpus_(corpus), options_(options), pool_(pool), notes_(notes),
        groups_(groups_of(model, plan)), base_(model, corpus, pool), quantized_(model, corpus, pool) {
    for (const PlannedTensor& p : plan) planned_[p.tensor->name()] = &p;
  }

  std::map<std::string, CalibratedTensor> run() {
    quantize_tables();
    uint64_t total = 0;
    for (const Group& g : groups_)
      for (const auto& l : g.linears) total += l.plan->tensor->n_elements();
    Progress progress("round", total, "w");
    size_t position = 0, done = 0;
    for (const Group& group : groups_) {
      const size_t keep = keep_point(position, done, group.first_step);
      round_group(group, position, keep);
      position = keep;
      done = group.last_step + 1;
      uint64_t weights = 0;
      for (const auto& l : group.linears) weights += l.plan->tensor->n_elements();
      progress.advance(weights, group.linears.front().op->weight);
    }
    progress.finish();
    return std::move(result_);
  }

 private:
  // Where activations are narrowest between the last group's end and this one's start, if they are narrow enough to keep.
  size_t keep_point(size_t position, size_t done, size_t first) const {
    const size_t n_embd = model_.hparams().n_embd;
    size_t best = position, least = static_cast<size_t>(kStoredWidth * static_cast<double>(n_embd)) + 1;
    for (size_t s = std::max(done, position); s <= first; ++s) {
      const auto live = live_values(graph_, s);
      if (s == 0 || live.empty()) continue;
      if (const size_t width = width_of(graph_, live); width < least) {
        least = width;
        best = s;
      }
    }
    return best;
  }

  bool rounds(const PlannedTensor& p) const {
    return p.type->is_quantized && can_round(*p.type) && p.type != &p.tensor->type() &&
           !result_.contains(p.tensor->name());  // a tied head was rounded as the table it is
  }

  // Tables that are looked up (embeddings) are rounded first: everything after them can make up for their error.
  void quantize_tables() {
    for (const Op& op : graph_.ops) {
      if (op.kind != OpKind::kEmbed) continue;
      const PlannedTensor& p = *planned_.at(op.weight);
      if (!p.type->is_quantized || p.type == &p.tensor->type()) continue;
      keep(p, search(p), "search");
    }
  }

  std::vector<std::byte> search(const PlannedTensor& p, const float* importance = nullptr) const {
    const uint64_t rows = p.tensor->n_rows(), cols = p.tensor->n_cols(), row_bytes = p.size_bytes / rows;
    std::vector<std::byte> bytes(p.size_bytes);
    constexpr uint64_t kRows = 64;
    pool_.parallel_for((rows + kRows - 1) / kRows, [&](size_t item, int) {
      const uint64_t first = item * kRows, n = std::min(kRows, rows - first);
      std::vector<float> x(n * cols);
      p.tensor->read_rows(first, n, x.data());
      for (uint64_t r = 0; r < n; ++r)
        kernels().encode[p.type->index](x.data() + r * cols, importance, bytes.data() + (first + r) * row_bytes, cols);
    });
    return bytes;
  }

  // From here on the quantized model uses these bytes.
  void keep(const PlannedTensor& p, std::vector<std::byte> bytes, const std::string& method) {
    CalibratedTensor& t = result_[p.tensor->name()];
    t.bytes = std::move(bytes);
    t.method = method;
    ModelTensor& tensor = tensors_[p.tensor->name()];
    tensor = ModelTensor(p.tensor->spec(), *p.type, t.bytes);
    quantized_.engine().replace_weight(p.tensor->name(), tensor);
  }

  void round_group(const Group& group, size_t position, size_t keep_at) {
    const size_t n = graph_.widths[static_cast<size_t>(group.input)];
    std::vector<ValueId> wanted = {group.input};
    bool any = false;
    for (const auto& l : group.linears) {
      any |= rounds(*l.plan);
      if (options_.residual && l.residual != kNoValue &&
          std::find(wanted.begin(), wanted.end(), l.residual) == wanted.end())
        wanted.push_back(l.residual);
    }
    InputSums sums(n);
    if (options_.asymmetric) sums.d.emplace(n, n, false);
    if (options_.asymmetric && options_.residual)
      for (size_t i = 1; i < wanted.size(); ++i)
        sums.e.emplace(wanted[i], GramAccumulator(graph_.widths[static_cast<size_t>(wanted[i])], n, false));

    std::map<ValueId, std::vector<float>> x, xq;
    for (size_t c = 0; c < corpus_.chunks.size(); ++c) {
      base_.advance(c, position, keep_at, group.first_step, wanted, x);
      quantized_.advance(c, position, keep_at, group.first_step, wanted, xq);
      if (any) add(sums, group, x, xq);
    }
    if (!any) return;
    std::vector<float> gram(n * n);
    sums.h.finish(gram);
    const Curvature curvature(gram, n, sums.h.n_tokens(), options_.damping, pool_);
    std::vector<float> d;
    if (sums.d) {
      d.resize(n * n);
      sums.d->finish(d);
    }
    for (const auto& l : group.linears)
      if (rounds(*l.plan)) round_linear(l, sums, curvature, d);
  }

  void add(InputSums& sums, const Group& group, const std::map<ValueId, std::vector<float>>& x,
           std::map<ValueId, std::vector<float>>& xq) {
    const size_t n = sums.h.n(), n_tokens = corpus_.context;
    const std::vector<float>& input = xq.at(group.input);
    sums.h.add(input.data(), n, n_tokens, pool_);
    if (!sums.d) return;
    difference_ = x.at(group.input);
    for (size_t i = 0; i < difference_.size(); ++i) difference_[i] -= input[i];
    sums.d->add(input.data(), n, difference_.data(), n, n_tokens, pool_);
    for (auto& [value, e] : sums.e) {
      difference_ = x.at(value);
      const std::vector<float>& other = xq.at(value);
      for (size_t i = 0; i < difference_.size(); ++i) difference_[i] -= other[i];
      e.add(difference_.data(), e.n(), input.data(), n, n_tokens, pool_);
    }
  }

  void round_linear(const Group::Linear& linear, const InputSums& sums, const Curvature& curvature,
                    const std::vector<float>& d) {
    const ModelTensor& tensor = *linear.plan->tensor;
    const uint64_t rows = tensor.n_rows(), n = tensor.n_cols(), row_bytes = linear.plan->size_bytes / rows;
    const float per_token = 1.0f / static_cast<float>(sums.h.n_tokens());
    const auto residual = sums.e.find(linear.residual);
    std::vector<std::byte> bytes(linear.plan->size_bytes);
    const uint64_t slab = std::max<uint64_t>(64, kSlabWeights / n / 64 * 64);
    std::vector<float> w, change;
    for (uint64_t first = 0; first < rows; first += slab) {
      const uint64_t n_rows = std::min(slab, rows - first);
      w.resize(n_rows * n);
      pool_.parallel_for((n_rows + 63) / 64, [&](size_t item, int) {
        tensor.read_rows(first + item * 64, std::min<uint64_t>(64, n_rows - item * 64), w.data() + item * 64 * n);
      });
      if (!d.empty()) {
        change.resize(n_rows * n);
        pool_.parallel_for((n_rows + 63) / 64, [&](size_t item, int) {
          const uint64_t r0 = item * 64, r_n = std::min<uint64_t>(64, n_rows - r0);
          kernels().gemm_nt(d.data(), n, w.data() + r0 * n, n, change.data() + r0 * n, n, n, r_n, n);
          for (uint64_t r = r0; r < r0 + r_n; ++r) {
            float* row = change.data() + r * n;
            if (residual != sums.e.end()) {
              std::vector<float> e(n);
              residual->second.finish_row(first + r, e);
              for (uint64_t c = 0; c < n; ++c) row[c] += static_cast<float>(options_.residual_share) * e[c];
            }
            for (uint64_t c = 0; c < n; ++c) row[c] *= per_token;
          }
        });
        curvature.solve(change.data(), n_rows, pool_);
        for (uint64_t i = 0; i < n_rows * n; ++i) w[i] += change[i];
      }
      round_rows(w.data(), n_rows, *linear.plan->type, curvature, options_.round, bytes.data() + first * row_bytes, pool_);
    }
    keep(*linear.plan, std::move(bytes), options_.round.descent_passes > 0 ? "gptq+descent" : "gptq");
  }

  const Model& model_;
  const Graph& graph_;
  const Corpus& corpus_;
  const CalibratedOptions& options_;
  ThreadPool& pool_;
  std::vector<std::string>& notes_;
  std::vector<Group> groups_;
  std::map<std::string, const PlannedTensor*> planned_;
  Stream base_, quantized_;
  std::map<std::string, CalibratedTensor> result_;
  std::map<std::string, ModelTensor> tensors_;
  std::vector<float> difference_;
};

}  // namespace

std::map<std::string, CalibratedTensor> round_calibrated(const Model& model, const std::vector<PlannedTensor>& plan,
                                                         const Corpus& corpus, const CalibratedOptions& options,
                                                         ThreadPool& pool, std::vector<std::string>& notes) {
  return CalibratedRounding(model, plan, corpus, options, pool, notes).run();
}

}  // namespace tsubu
