#include "transform/expert_scales.h"

#include <algorithm>

#include "base/error.h"

namespace tsubu {

void ExpertScales::add(const FoldableExperts& group, size_t expert, const TransformedGroup& result, std::span<const double> scales) {
  Group& all = groups_[group.linears.front()];
  all.scales.resize(uint64_t{group.n_experts} * group.n_cols, 1.0);
  std::copy(scales.begin(), scales.end(), all.scales.begin() + static_cast<std::ptrdiff_t>(expert * group.n_cols));
  ++all.n_experts;
  all.sum.alpha += result.alpha;
  all.sum.error_before += result.error_before;
  all.sum.error += result.error;
}

void ExpertScales::fold(EditableModel& model, const std::vector<FoldableExperts>& groups, const std::string& why, ThreadPool& pool,
                        TransformReport& report) const {
  size_t n_experts = 0, n_added = 0;
  for (const FoldableExperts& group : groups) {
    n_experts += group.n_experts;
    const auto found = groups_.find(group.linears.front());
    if (found == groups_.end()) continue;
    const Group& all = found->second;
    fold_expert_scales(model, group, all.scales, pool);
    const auto n = static_cast<double>(all.n_experts);
    report.groups.push_back({group.linears, all.sum.alpha / n, all.sum.error_before / n, all.sum.error / n});
    n_added += all.n_experts;
  }
  if (n_experts > n_added)
    report.notes.push_back(fmt::format("{} of {} experts {}: their down projections were left alone", n_experts - n_added, n_experts, why));
}

}  // namespace tsubu
