// Scales of a linear input's channels, moved into the weights on both sides: columns of the linears that read it are
// multiplied by s, the norm's gain (and bias) or the rows (and bias) of the linear that wrote it are divided by s. In
// exact arithmetic the model stays the same. Where a router and experts read a norm's output, all of them and shared experts have
// one scale for each channel, so that the router chooses what it chose; up → down of an expert is scaled for each expert by itself.
#pragma once

#include <span>
#include <vector>

#include "base/threads.h"
#include "transform/editable_model.h"

namespace tsubu {

// A group whose channels can be scaled, with the linears of experts that read its input as well (gate and up beside the
// router): a scale of its channels is one for all of them.
struct FoldableGroup : LinearGroup {
  std::vector<std::string> experts;
};

// The groups of the blocks whose channels can be scaled, in graph order. (The head's group is none of them.)
std::vector<FoldableGroup> foldable_groups(const Graph& graph);

// Linears of routed experts whose input comes channel by channel from another linear of the same experts (up → down), which
// nothing else reads: each expert's channels can be scaled by themselves.
struct FoldableExperts : ExpertGroup {
  uint32_t n_used = 0;  // experts of a token
  std::string producer_linear, producer_bias;
};
std::vector<FoldableExperts> foldable_experts(const Graph& graph);

enum class Tie { kMean, kMax };
// Channels of the input that one row of the producer writes (the query heads of one key/value head) must share one
// scale: gives them the mean or the largest of their values.
void tie_channels(const LinearGroup& group, Tie how, std::span<double> values);

// scales: one for each channel of the group's input, positive, tied.
void fold_scales(EditableModel& model, const FoldableGroup& group, std::span<const double> scales, ThreadPool& pool);

// scales: (n_experts, n_cols), positive: of each expert's input its own.
void fold_expert_scales(EditableModel& model, const FoldableExperts& group, std::span<const double> scales, ThreadPool& pool);

}  // namespace tsubu
