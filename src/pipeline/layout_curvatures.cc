#include "pipeline/layout_curvatures.h"

#include <algorithm>
#include <tuple>

#include "base/error.h"
#include "base/progress.h"
#include "base/size.h"

namespace tsubu {

ExpertCurvatures::ExpertCurvatures(const Model& model, const CorpusOptions& text, double damping, uint64_t memory, ThreadPool& pool)
    : model_(model), corpus_(read_corpus(model, text)), damping_(damping), memory_(memory), pool_(pool) {
  std::map<ValueId, size_t> group_of_input;
  const Graph& graph = model.graph();
  for (size_t i = 0; i < graph.ops.size(); ++i) {
    const Op& op = graph.ops[i];
    if (op.kind != OpKind::kExpertLinear) continue;
    const auto [it, is_new] = group_of_input.emplace(op.inputs[0], groups_.size());
    if (is_new) groups_.push_back({i, &op, 0});
    group_of_[op.weight] = it->second;
  }
}

void ExpertCurvatures::open(size_t index) {
  const Group& group = groups_[index];
  const Graph& graph = model_.graph();
  if (!stream_ || group.step < position_) {
    stream_ = std::make_unique<KeptStream>(model_, corpus_, Products::kF32, pool_);
    position_ = 0;
  }
  const size_t keep = narrowest_step(graph, position_, group.step, position_, model_.hparams().n_embd, Products::kF32);
  ExpertInput input = expert_input(graph, *group.op);
  input.n_chunks = corpus_.chunks.size();
  input.n_tokens = corpus_.context;
  const std::vector<ValueId> wanted = {group.op->inputs[0], group.op->inputs[1]};
  input.read = [this, keep, wanted, step = group.step](size_t chunk) {
    throw_if_interrupted();
    stream_->advance(chunk, keep, step, wanted, values_);
    return ExpertInput::Values{values_.at(wanted[0]).data(), values_.at(wanted[1]).data()};
  };
  grams_ = std::make_unique<ExpertGrams>(std::move(input), ExpertGramOptions{Products::kF32, memory_}, pool_);
  position_ = keep;
  if (!grams_->fits())
    notes_.push_back(fmt::format("{}: the Gram matrices of one expert take {}, more than --expert-memory {}: rounded by search",
                                 group.op->weight, format_size(grams_->least_bytes()), format_size(memory_)));
}

const Curvature* ExpertCurvatures::find(const std::string& weight, uint64_t expert) {
  const auto found = group_of_.find(weight);
  if (found == group_of_.end()) return nullptr;
  if (group_ != found->second || (expert_ && *expert_ > expert)) {
    curvature_.reset();
    grams_.reset();
    open(found->second);
    group_ = found->second;
    expert_.reset();
  }
  if (!grams_->fits()) return nullptr;
  if (expert_ != expert) {
    curvature_.reset();
    ExpertGram gram = grams_->take(expert);
    expert_ = expert;
    if (!gram.learned.empty()) curvature_.emplace(std::move(gram.learned), grams_->n_cols(), 1, damping_, pool_);
    if (gram.n_tokens == 0)
      notes_.push_back(fmt::format("{}: expert {} got no token of the text", groups_[*group_].op->weight, expert));
  }
  return curvature_ ? &*curvature_ : nullptr;
}

void sort_experts(const Graph& graph, std::vector<HfTensor>& tensors) {
  std::map<ValueId, size_t> group_of_input;
  std::map<std::string, std::pair<size_t, size_t>> place_of;  // the group, and which of its linears
  for (const Op& op : graph.ops)
    if (op.kind == OpKind::kExpertLinear)
      place_of[op.weight] = {group_of_input.emplace(op.inputs[0], group_of_input.size()).first->second, place_of.size()};
  std::vector<size_t> places;
  std::vector<HfTensor> experts;
  for (size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].expert && place_of.contains(tensors[i].gguf_name())) {
      places.push_back(i);
      experts.push_back(std::move(tensors[i]));
    }
  const auto key = [&](const HfTensor& t) {
    const auto [group, linear] = place_of.at(t.gguf_name());
    return std::tuple(group, *t.expert, linear);
  };
  std::stable_sort(experts.begin(), experts.end(), [&](const HfTensor& a, const HfTensor& b) { return key(a) < key(b); });
  for (size_t i = 0; i < places.size(); ++i) tensors[places[i]] = std::move(experts[i]);
}

const Curvature* LayoutCurvatures::find(const HfTensor& tensor, bool experts) {
  const std::string& name = tensor.gguf_name();
  const size_t n = tensor.sources.front()->n_cols();
  if (statistics_ && statistics_->has_gram(name)) {
    const auto sharing = statistics_->sharing(name);
    const std::string owner = sharing.empty() ? name : sharing.front();
    if (owner == owner_) return &*curvature_;
    if (statistics_->n_cols(name) != n)
      fail(ExitCode::kBadInput,
           "{}: {}: expected {} columns as in the model, found {} (were these statistics made with another model?)",
           statistics_->path(), name, n, statistics_->n_cols(name));
    curvature_.reset();
    owner_ = owner;
    return &curvature_.emplace(statistics_->gram(name), n, statistics_->n_tokens(name), damping_, pool_);
  }
  if (!tensor.expert || !experts) return nullptr;
  curvature_.reset();
  owner_.clear();
  if (experts_) return experts_->find(name, *tensor.expert);
  if (!statistics_) return nullptr;
  const AlignedVector<float> gram = pooled_expert_gram(*statistics_, model_.graph(), name, *tensor.expert);
  if (gram.empty()) return nullptr;
  return &curvature_.emplace(gram, n, 1, damping_, pool_);
}

}  // namespace tsubu
