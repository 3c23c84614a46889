// Two models run side by side over the calibration chunks: the float one (inputs x) and the one quantized so far
// (inputs x̃). For a group of linears that read one input, with T tokens,
//   H = Σ x̃ x̃ᵀ / T,  D = Σ (x - x̃) x̃ᵀ / T,  E = Σ (h - h̃) x̃ᵀ / T   (h: the residual stream that the output is added to)
//   W' = W + (W D + E)(H + λI)⁻¹
// minimizes the output error Σ |W x + h - (W' x̃ + h̃)|² up to the damping, and what is left of it is the quadratic form
// (W' - Ŵ) H (W' - Ŵ)ᵀ that the rounding methods work on. Source of the asymmetric target: Li et al. 2504.02692
// (GPTAQ); its closed form and the residual term: own.
#include "pipeline/calibrated.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/aligned.h"
#include "base/error.h"
#include "base/progress.h"
#include "base/size.h"
#include "calibrate/fisher.h"
#include "calibrate/gram.h"
#include "engine/engine.h"
#include "evaluate/evaluate.h"
#include "kernel/kernels.h"
#include "pipeline/calibrated_experts.h"
#include "pipeline/kept_stream.h"
#include "pipeline/rounding_groups.h"
#include "pipeline/stream_metric.h"

namespace tsubu {
namespace {

// Activations are kept (narrowest_step) of so many chunks that the mean is at most so many embeddings of floats; the other
// chunks stay at an earlier place and are computed again from there.
constexpr double kMeanWidth = 1.75;
constexpr uint64_t kReadRows = 96;    // read by one thread at a time; a multiple of the products' tiles
// Held-out errors of matrices of many rows are taken from every fourth group of kReadRows rows.
constexpr uint64_t kManyRows = 1024, kJudgedOneIn = 4;
constexpr uint64_t kSlabWeights = uint64_t{1} << 22;  // weights of a matrix in memory as floats

// Sums of one group's input over some of the chunks.
struct InputSums {
  GramAccumulator h;                     // x̃ x̃ᵀ
  std::optional<GramAccumulator> d;      // x̃ (x - x̃)ᵀ: D transposed
  std::map<ValueId, GramAccumulator> e;  // (h - h̃) x̃ᵀ, by residual value
  InputSums(size_t n, Products products) : h(n, n, true, nullptr, products) {}
  void flush(ThreadPool& pool) {
    h.flush(pool);
    if (d) d->flush(pool);
    for (auto& [value, sums] : e) sums.flush(pool);
  }
};

// The same as means, ready for products.
struct InputMeans {
  size_t n = 0;
  float per_token = 0;
  uint64_t n_tokens = 0;
  AlignedVector<float> h, d;  // n × n sums, d transposed; of those the rounding is fitted to, h is the curvature's
  std::map<ValueId, GramAccumulator> e;

  // Takes the sums' memory over or frees it.
  explicit InputMeans(std::optional<InputSums> sums) : n(sums->h.n()), n_tokens(sums->h.n_tokens()), h(n * n) {
    if (n_tokens > 0) per_token = 1.0f / static_cast<float>(n_tokens);
    sums->h.finish(h);
    e = std::move(sums->e);
    std::optional<GramAccumulator> products = std::move(sums->d);
    sums.reset();
    if (!products) return;
    d.resize(n * n);
    products->finish(d);
  }
};

// What plain search and the method leave behind on the held-out chunks.
struct Verdict {
  double method = 0, search = 0;
};

class CalibratedRounding {
 public:
  CalibratedRounding(const Model& model, const std::vector<PlannedTensor>& plan, const Corpus& corpus,
                     const CalibratedOptions& options, ThreadPool& pool, RoundedStore& store,
                     std::vector<std::string>& notes)
      : model_(model),
        graph_(model.graph()),
        corpus_(corpus),
        options_(options),
        pool_(pool),
        store_(store),
        notes_(notes),
        groups_(rounding_groups(model, plan)),
        base_(model, corpus, products(), pool),
        quantized_(model, corpus, products(), pool) {
    for (const PlannedTensor& p : plan) planned_[p.tensor->name()] = &p;
  }

  CalibrationDivergence run() {
    collect_fisher();
    quantize_tables();
    uint64_t total = 0;
    for (const RoundingGroup& g : groups_)
      for (const auto& l : g.linears) total += l.plan->tensor->n_elements();
    Progress progress("round", total, "w");
    size_t position = 0, done = 0;
    for (const RoundingGroup& group : groups_) {
      const size_t keep = keep_point(position, done, group.first_step), n_kept = chunks_to_keep(position, keep);
      if (group.is_experts)
        round_expert_group(group, keep, n_kept);
      else
        round_group(group, keep, n_kept);
      if (n_kept == corpus_.chunks.size()) position = keep;
      done = group.last_step + 1;
      const bool mapped = !model_.files().empty();
      for (; mapped && released_ < groups_.size() && groups_[released_].last_step < position; ++released_)
        for (const auto& l : groups_[released_].linears) {
          l.plan->tensor->release_rows(0, l.plan->tensor->n_rows());
          const auto rounded = tensors_.find(l.plan->tensor->name());
          if (rounded != tensors_.end()) rounded->second.release_rows(0, rounded->second.n_rows());
        }
      uint64_t weights = 0;
      for (const auto& l : group.linears) weights += l.plan->tensor->n_elements();
      progress.advance(weights, group.linears.front().op->weight);
    }
    progress.finish();
    base_.forget();
    quantized_.forget();
    return divergence();
  }

 private:
  CalibrationDivergence divergence() {
    constexpr size_t kChunks = 4, kScored = 128;
    CalibrationDivergence result;
    const size_t period = held_out_period(), scored = std::min<size_t>(kScored, corpus_.context / 2);
    for (const auto& [name, p] : planned_)
      if (p->type->is_quantized && p->type != &p->tensor->type() && !tensors_.contains(name)) return result;
    if (period == 0) return result;
    const size_t chunks = std::min(kChunks, corpus_.chunks.size() / period), n_vocab = base_.engine().n_vocab();
    std::optional<KeptStream> reference;
    if (options_.reference) reference.emplace(*options_.reference, corpus_, products(), pool_);
    KeptStream& base = reference ? *reference : base_;
    std::vector<float> logits[2];
    for (auto& l : logits) l.resize(scored * n_vocab);
    for (const bool held : {false, true}) {
      double& sum = held ? result.held_out : result.seen;
      for (size_t i = 0; i < chunks; ++i) {  // neighbors in the text
        const auto& tokens = corpus_.chunks[(i + 1) * period - (held ? 1 : 2)];
        base.logits(tokens, scored, logits[0]);
        quantized_.logits(tokens, scored, logits[1]);
        sum += mean_kl_divergence(logits[0], logits[1], n_vocab, pool_) / static_cast<double>(chunks);
      }
    }
    result.n_tokens = chunks * scored;
    return result;
  }

  // The output side of every linear, from the float model: of windows that are learned from and of held-out ones.
  void collect_fisher() {
    bool any = false;
    for (const RoundingGroup& g : groups_)
      for (const auto& l : g.linears) any |= rounds(*l.plan) && !store_.find(l.plan->tensor->name());
    const size_t n_chunks = corpus_.chunks.size(), period = held_out_period();
    if (options_.fisher_tokens == 0 || !any) return;
    const size_t wanted = std::clamp<size_t>(options_.fisher_tokens / corpus_.context, 1, n_chunks);
    const size_t rows = fisher_block_rows(graph_, options_.fisher_rows, period > 0 ? 2 : 1, options_.fisher_memory);
    fisher_.emplace(graph_, rows, pool_);
    if (period > 0) held_fisher_.emplace(graph_, rows, pool_);
    Backward backward(model_, pool_);
    Progress progress("gradients", wanted * corpus_.context, "tokens");
    // Spread over the text; of every `period` windows the last one used is a held-out one.
    for (size_t i = 0; i < wanted; ++i) {
      size_t c = i * n_chunks / wanted;
      const bool held = period > 0 && i % period == period - 1;
      if (period > 0 && held != (c % period == period - 1)) {
        c = held ? std::min(c / period * period + period - 1, (n_chunks / period) * period - 1) : c - c % period;
      }
      add_fisher_window(backward, corpus_.chunks[c], options_.fisher_seed, c, held ? *held_fisher_ : *fisher_, pool_);
      progress.advance(corpus_.context);
    }
    if (held_fisher_ && held_fisher_->n_tokens() == 0) held_fisher_.reset();
    progress.finish();
  }

  // The block's form of rows from `first` on, damped.
  AlignedVector<float> output_form(const FisherSums& sums, const std::string& weight, uint64_t first, double damping) {
    AlignedVector<float> h = sums.block(weight, first);
    damp_output_form(h, damping);
    return h;
  }

  // Where activations are narrowest between the last group's end and this one's start, if they are narrow enough to
  // keep.
  size_t keep_point(size_t position, size_t done, size_t first) const {
    return narrowest_step(graph_, std::max(done, position), first, position, model_.hparams().n_embd, products());
  }

  // Of how many chunks the activations at `keep` fit, the others staying at `position`.
  size_t chunks_to_keep(size_t position, size_t keep) const {
    const double limit = kMeanWidth * static_cast<double>(model_.hparams().n_embd);
    const double before = kept_width(graph_, position, products()), after = kept_width(graph_, keep, products());
    if (after <= std::max(before, limit)) return corpus_.chunks.size();
    return static_cast<size_t>(std::max(0.0, (limit - before) / (after - before)) *
                               static_cast<double>(corpus_.chunks.size()));
  }

  bool rounds(const PlannedTensor& p) const {
    return p.type->is_quantized && can_round(*p.type) && p.type != &p.tensor->type() &&
           !tensors_.contains(p.tensor->name());  // a tied head was rounded as the table it is
  }

  // Tables that are looked up (embeddings) are rounded first: everything after them can make up for their error.
  void quantize_tables() {
    for (const Op& op : graph_.ops) {
      if (op.kind != OpKind::kEmbed) continue;
      const PlannedTensor& p = *planned_.at(op.weight);
      if (!p.type->is_quantized || p.type == &p.tensor->type() || resume(p)) continue;
      if (!options_.embeddings || !can_round(*p.type)) {
        keep(p, search(p), "search");
        continue;
      }
      const auto metric = stream_metric(model_, corpus_, pool_);
      if (!model_.files().empty())  // it reads every matrix once
        for (const auto& [name, planned] : planned_) planned->tensor->release_rows(0, planned->tensor->n_rows());
      const size_t n = p.tensor->n_cols();
      round_table(p, Curvature(metric, n, 1, options_.embedding_damping, pool_));
    }
  }

  // Experts against the inputs that the quantized model gives each of them.
  void round_expert_group(const RoundingGroup& group, size_t keep_at, size_t n_kept) {
    std::vector<const PlannedTensor*> tensors;
    for (const auto& l : group.linears)
      if (l.plan->type->is_quantized && l.plan->type != &l.plan->tensor->type() && !resume(*l.plan)) tensors.push_back(l.plan);
    if (tensors.empty()) return;
    const Op& op = *group.linears.front().op;
    const std::vector<ValueId> wanted = {op.inputs[0], op.inputs[1]};
    std::map<ValueId, std::vector<float>> values;
    ExpertInput input = expert_input(graph_, op);
    input.n_chunks = corpus_.chunks.size();
    input.n_tokens = corpus_.context;
    input.held_period = held_out_period();
    input.read = [&](size_t chunk) {
      throw_if_interrupted();
      quantized_.advance(chunk, chunk < n_kept ? keep_at : 0, group.first_step, wanted, values);
      return ExpertInput::Values{values.at(wanted[0]).data(), values.at(wanted[1]).data()};
    };
    ExpertGrams grams(std::move(input), {products(), options_.expert_memory, options_.expert_weights}, pool_);
    if (!grams.fits() && std::any_of(tensors.begin(), tensors.end(), [](const auto* p) { return can_round(*p->type); }))
      notes_.push_back(fmt::format("{}: the Gram matrices of one expert take {}, more than --expert-memory {}: rounded by search",
                                   op.weight, format_size(grams.least_bytes()), format_size(options_.expert_memory)));
    const std::vector<RoundedExperts> rounded = round_experts(tensors, grams, options_, method_name(), pool_);
    for (size_t t = 0; t < tensors.size(); ++t) {
      keep(*tensors[t], rounded[t].bytes, rounded[t].method, {rounded[t].error, rounded[t].search_error});
      note_experts(tensors[t]->tensor->name(), rounded[t], notes_);
    }
  }

  std::vector<std::byte> search(const PlannedTensor& p, const float* importance = nullptr) {
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
  void keep(const PlannedTensor& p, const std::vector<std::byte>& bytes, const std::string& method,
            Verdict verdict = {}) {
    use(p, store_.put(p.tensor->name(), bytes, method, verdict.method, verdict.search));
  }
  void use(const PlannedTensor& p, const RoundedTensor& rounded) {
    ModelTensor& tensor = tensors_[p.tensor->name()];
    tensor = ModelTensor(p.tensor->spec(), *p.type, rounded.bytes);
    quantized_.engine().replace_weight(p.tensor->name(), tensor);
  }
  bool resume(const PlannedTensor& p) {
    const RoundedTensor* rounded = store_.find(p.tensor->name());
    if (rounded) use(p, *rounded);
    return rounded != nullptr;
  }

  // n_kept: chunks that are kept at keep_at.
  void round_group(const RoundingGroup& group, size_t keep_at, size_t n_kept) {
    const size_t n = graph_.widths[static_cast<size_t>(group.input)];
    std::vector<ValueId> wanted = {group.input};
    bool any = false;
    for (const auto& l : group.linears) {
      any |= rounds(*l.plan) && !store_.find(l.plan->tensor->name());
      if (options_.asymmetric && options_.residual && l.residual != kNoValue &&
          std::find(wanted.begin(), wanted.end(), l.residual) == wanted.end())
        wanted.push_back(l.residual);
    }
    std::optional<InputSums> seen, held;
    for (auto* sums : {&seen, &held}) {
      if (!any) continue;
      sums->emplace(n, products());
      if (!options_.asymmetric) continue;
      (*sums)->d.emplace(n, n, false, nullptr, products());
      for (size_t i = 1; i < wanted.size(); ++i)
        (*sums)->e.emplace(wanted[i], GramAccumulator(graph_.widths[static_cast<size_t>(wanted[i])], n, false,
                                                              nullptr, products()));
    }
    const size_t period = held_out_period();
    std::map<ValueId, std::vector<float>> x, xq;
    for (size_t c = 0; c < corpus_.chunks.size(); ++c) {
      const size_t keep_chunk = c < n_kept ? keep_at : 0;
      base_.advance(c, keep_chunk, group.first_step, wanted, x);
      quantized_.advance(c, keep_chunk, group.first_step, wanted, xq);
      if (any) add(period > 0 && c % period == period - 1 ? *held : *seen, group, x, xq);
    }
    for (const auto& l : group.linears)
      if (rounds(*l.plan)) resume(*l.plan);
    if (!any) return;
    for (auto* sums : {&seen, &held}) (*sums)->flush(pool_);
    InputMeans means(std::move(seen));
    const Curvature curvature(std::move(means.h), n, means.n_tokens, options_.damping, pool_);
    const InputMeans held_means(std::move(held));
    for (const auto& l : group.linears)
      if (rounds(*l.plan) && !store_.find(l.plan->tensor->name())) round_linear(l, means, held_means, curvature);
  }

  Products products() const { return options_.products.value_or(Products::kF32); }

  // Every so many chunks one is held out; 0: none is.
  size_t held_out_period() const {
    if (options_.held_out <= 0) return 0;
    const auto period = static_cast<size_t>(std::max(2.0, std::round(1 / options_.held_out)));
    return corpus_.chunks.size() >= 2 * period ? period : 0;
  }

  void add(InputSums& sums, const RoundingGroup& group, const std::map<ValueId, std::vector<float>>& x,
           const std::map<ValueId, std::vector<float>>& xq) {
    const size_t n = sums.h.n(), n_tokens = corpus_.context;
    const std::vector<float>& input = xq.at(group.input);
    sums.h.add(input.data(), n, n_tokens, pool_);
    if (!sums.d) return;
    const auto difference = [&](ValueId value) {
      const std::vector<float>&from = x.at(value), &take = xq.at(value);
      difference_.resize(from.size());
      for (size_t i = 0; i < from.size(); ++i) difference_[i] = from[i] - take[i];
      return difference_.data();
    };
    sums.d->add(input.data(), n, difference(group.input), n, n_tokens, pool_);
    for (auto& [value, e] : sums.e) e.add(difference(value), e.n(), input.data(), n, n_tokens, pool_);
  }

  // W D + E of rows [first, first + n_rows): minus half the gradient of the output error at w, per token.
  // one_in: of so many groups of kReadRows rows one is computed, the others are zeros.
  void pull(const RoundingGroup::Linear& linear, const InputMeans& means, const std::vector<float>& w, uint64_t first,
            uint64_t n_rows, std::vector<float>& out, uint64_t one_in = 1) {
    const size_t n = means.n;
    out.assign(n_rows * n, 0.0f);
    if (means.d.empty()) return;
    const auto residual = means.e.find(linear.residual);
    pool_.parallel_for((n_rows + kReadRows - 1) / kReadRows, [&](size_t item, int) {
      if (item % one_in != 0) return;
      const uint64_t begin = item * kReadRows, end = std::min(n_rows, begin + kReadRows);
      kernels().gemm_nt(means.d.data(), n, w.data() + begin * n, n, out.data() + begin * n, n, n, end - begin, n);
      std::vector<float> e(n);
      for (uint64_t r = begin; r < end; ++r) {
        float* row = out.data() + r * n;
        if (residual != means.e.end()) {
          residual->second.finish_row(first + r, e);
          for (size_t c = 0; c < n; ++c) row[c] += static_cast<float>(options_.residual_share) * e[c];
        }
        for (size_t c = 0; c < n; ++c) row[c] *= means.per_token;
      }
    });
  }

  // Σ over rows (of one in so many groups of them) of δ H δᵀ and of δ gᵀ, per token.
  struct Form {
    double quadratic = 0, linear = 0;
  };
  Form form(const std::vector<float>& delta, const std::vector<float>& g, const InputMeans& means, uint64_t n_rows,
            uint64_t one_in) {
    const size_t n = means.n;
    std::vector<Form> parts((n_rows + kReadRows - 1) / kReadRows);
    pool_.parallel_for(parts.size(), [&](size_t item, int) {
      if (item % one_in != 0) return;
      const uint64_t begin = item * kReadRows, end = std::min(n_rows, begin + kReadRows);
      std::vector<float> product((end - begin) * n);
      kernels().gemm_nt(means.h.data(), n, delta.data() + begin * n, n, product.data(), n, n, end - begin, n);
      for (uint64_t r = begin; r < end; ++r) {
        parts[item].quadratic +=
            static_cast<double>(kernels().dot(delta.data() + r * n, product.data() + (r - begin) * n, n));
        parts[item].linear += static_cast<double>(kernels().dot(delta.data() + r * n, g.data() + r * n, n));
      }
    });
    Form sum;
    for (const Form& part : parts) {
      sum.quadratic += part.quadratic * static_cast<double>(means.per_token);
      sum.linear += part.linear;
    }
    return sum;
  }

  void read_rows(const ModelTensor& tensor, uint64_t first, uint64_t n_rows, std::vector<float>& w) {
    const uint64_t n = tensor.n_cols();
    w.resize(n_rows * n);
    pool_.parallel_for((n_rows + kReadRows - 1) / kReadRows, [&](size_t item, int) {
      const uint64_t r = item * kReadRows;
      tensor.read_rows(first + r, std::min(kReadRows, n_rows - r), w.data() + r * n);
    });
  }

  static uint64_t slab_rows(uint64_t n_cols) {
    return std::max<uint64_t>(kReadRows, kSlabWeights / n_cols / kReadRows * kReadRows);
  }

  void round_table(const PlannedTensor& p, const Curvature& curvature) {
    const ModelTensor& tensor = *p.tensor;
    const uint64_t rows = tensor.n_rows(), n = tensor.n_cols(), slab = slab_rows(n);
    std::vector<std::byte> bytes(p.size_bytes);
    std::vector<float> w;
    for (uint64_t first = 0; first < rows; first += slab) {
      const uint64_t n_rows = std::min(slab, rows - first);
      read_rows(tensor, first, n_rows, w);
      round_slab(p, w, first, n_rows, curvature, bytes);
    }
    keep(p, bytes, method_name());
  }

  void round_linear(const RoundingGroup::Linear& linear, const InputMeans& seen, const InputMeans& held,
                    const Curvature& curvature) {
    const PlannedTensor& p = *linear.plan;
    const std::string& name = p.tensor->name();
    const uint64_t rows = p.tensor->n_rows(), n = p.tensor->n_cols(), row_bytes = p.size_bytes / rows;
    const bool couples = fisher_ && fisher_->has(name);
    const uint64_t slab = couples ? fisher_->block_rows() : slab_rows(n);
    const bool judged = held.per_token > 0;
    const uint64_t one_in = rows >= kManyRows && !couples ? kJudgedOneIn : 1;
    std::vector<std::byte> bytes(p.size_bytes), plain = judged ? search(p, curvature.diagonal().data()) : bytes, coupled;
    Verdict verdict;
    double coupled_error = 0, method_error = 0, coupled_plain = 0;  // on held-out text, the first two under both sides
    std::vector<float> w, target, change, held_pull, delta;
    for (uint64_t first = 0; first < rows; first += slab) {
      const uint64_t n_rows = std::min(slab, rows - first);
      read_rows(*p.tensor, first, n_rows, w);
      target = w;
      if (judged) pull(linear, held, w, first, n_rows, held_pull, one_in);
      if (!seen.d.empty()) {
        pull(linear, seen, w, first, n_rows, change);
        curvature.solve(change.data(), n_rows, pool_);
        float share = 1;
        if (judged) {  // as much of the change as is best on the held-out chunks
          const Form f = form(change, held_pull, held, n_rows, one_in);
          share = f.quadratic > 0 ? static_cast<float>(std::clamp(f.linear / f.quadratic, 0.0, 1.0)) : 0.0f;
        }
        for (uint64_t i = 0; i < n_rows * n; ++i) target[i] += share * change[i];
      }
      round_slab(p, target, first, n_rows, curvature, bytes);
      if (couples) {
        if (coupled.empty()) coupled.resize(bytes.size());
        std::copy_n(bytes.data() + first * row_bytes, n_rows * row_bytes, coupled.data() + first * row_bytes);
        refine_coupled(target.data(), n_rows, *p.type, curvature,
                       output_form(*fisher_, name, first, options_.fisher_damping), options_.coupled,
                       coupled.data() + first * row_bytes, pool_);
      }
      if (!judged) continue;
      const auto judge = [&](const std::vector<std::byte>& made) {
        const std::byte* encoded = made.data() + first * row_bytes;
        delta.resize(n_rows * n);
        pool_.parallel_for((n_rows + kReadRows - 1) / kReadRows, [&](size_t item, int) {
          if (item % one_in != 0) return;
          const uint64_t begin = item * kReadRows, count = std::min(kReadRows, n_rows - begin);
          kernels().decode[p.type->index](encoded + begin * row_bytes, delta.data() + begin * n, count * n);
          for (uint64_t i = begin * n; i < (begin + count) * n; ++i) delta[i] -= w[i];
        });
        const Form f = form(delta, held_pull, held, n_rows, one_in);
        return f.quadratic - 2 * f.linear;
      };
      verdict.search += judge(plain);
      verdict.method += judge(bytes);
      if (!couples || !held_fisher_) continue;
      const AlignedVector<float> h_out = output_form(*held_fisher_, name, first, 0);
      method_error += coupled_error_of(h_out, delta, held_pull, held, n_rows);
      coupled_plain += judge(coupled);
      coupled_error += coupled_error_of(h_out, delta, held_pull, held, n_rows);
    }
    const bool keeps_coupled = couples && (!judged || !held_fisher_ || coupled_error < method_error);
    if (couples && !keeps_coupled)
      notes_.push_back(fmt::format("{}: descent under both sides' curvature is no better on the held-out text", name));
    if (keeps_coupled) verdict.method = coupled_plain;
    if (judged && !keeps_coupled && verdict.method > verdict.search) {
      notes_.push_back(fmt::format("{}: plain search is better on the held-out text and was kept", name));
      return keep(p, plain, "search", verdict);
    }
    if (keeps_coupled) return keep(p, coupled, std::string(method_name()) + "+coupled", verdict);
    keep(p, bytes, method_name(), verdict);
  }

  // Σ_rs h_out(r, s) (δ_r H δ_sᵀ - 2 δ_r g_sᵀ), per token.
  double coupled_error_of(const AlignedVector<float>& h_out, const std::vector<float>& delta, const std::vector<float>& g,
                          const InputMeans& means, uint64_t n_rows) {
    const size_t n = means.n;
    std::vector<float> side(n_rows * n);
    pool_.parallel_for((n_rows + kReadRows - 1) / kReadRows, [&](size_t item, int) {
      const uint64_t begin = item * kReadRows, end = std::min(n_rows, begin + kReadRows);
      kernels().gemm_nt(means.h.data(), n, delta.data() + begin * n, n, side.data() + begin * n, n, n, end - begin, n);
      for (uint64_t i = begin * n; i < end * n; ++i) side[i] = means.per_token * side[i] - 2 * g[i];
    });
    return coupled_product(h_out, delta.data(), side.data(), n_rows, n, pool_);
  }

  void round_slab(const PlannedTensor& p, const std::vector<float>& target, uint64_t first, uint64_t n_rows,
                  const Curvature& curvature, std::vector<std::byte>& bytes) {
    const uint64_t row_bytes = p.size_bytes / p.tensor->n_rows();
    std::byte* out = bytes.data() + first * row_bytes;
    if (!options_.start) return round_rows(target.data(), n_rows, *p.type, curvature, options_.round, out, pool_);
    const auto start = options_.start->tensor(p.tensor->name()).raw().subspan(first * row_bytes, n_rows * row_bytes);
    std::copy(start.begin(), start.end(), out);
    refine_rows(target.data(), n_rows, *p.type, curvature, options_.round, out, pool_);
  }

  const char* method_name() const {
    if (options_.start) return "refine";
    if (!options_.round.feedback) return "descent";
    return options_.round.descent_passes > 0 ? "gptq+descent" : "gptq";
  }

  const Model& model_;
  const Graph& graph_;
  const Corpus& corpus_;
  const CalibratedOptions& options_;
  ThreadPool& pool_;
  RoundedStore& store_;
  std::vector<std::string>& notes_;
  std::vector<RoundingGroup> groups_;
  std::map<std::string, const PlannedTensor*> planned_;
  KeptStream base_, quantized_;
  std::map<std::string, ModelTensor> tensors_;
  std::vector<float> difference_;
  std::optional<FisherSums> fisher_, held_fisher_;
  size_t released_ = 0;  // groups whose weights are needed no more
};

}  // namespace

CalibrationDivergence round_calibrated(const Model& model, const std::vector<PlannedTensor>& plan, const Corpus& corpus,
                      const CalibratedOptions& options, ThreadPool& pool, RoundedStore& store,
                      std::vector<std::string>& notes) {
  return CalibratedRounding(model, plan, corpus, options, pool, store, notes).run();
}

}  // namespace tsubu
