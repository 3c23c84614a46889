// Scales of a linear input's channels, moved into the weights on both sides: columns of the linears that read it are
// multiplied by s, the norm's gain (and bias) or the rows (and bias) of the linear that wrote it are divided by s. In
// exact arithmetic the model stays the same.
#pragma once

#include <span>
#include <vector>

#include "base/threads.h"
#include "transform/editable_model.h"

namespace tsubu {

// The groups of the blocks whose channels can be scaled, in graph order. (The head's group is none of them.)
std::vector<LinearGroup> foldable_groups(const Graph& graph);

enum class Tie { kMean, kMax };
// Channels of the input that one row of the producer writes (the query heads of one key/value head) must share one
// scale: gives them the mean or the largest of their values.
void tie_channels(const LinearGroup& group, Tie how, std::span<double> values);

// scales: one for each channel of the group's input, positive, tied.
void fold_scales(EditableModel& model, const LinearGroup& group, std::span<const double> scales, ThreadPool& pool);

}  // namespace tsubu
