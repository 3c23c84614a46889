// Scales that a transform found for the inputs of single experts, until they are folded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "transform/fold.h"
#include "transform/report.h"

namespace tsubu {

class ExpertScales {
 public:
  // result: what the search said. scales: of n_cols channels; empty: the expert stays as it is.
  void add(const FoldableExperts& group, size_t expert, const TransformedGroup& result, std::span<const double> scales);
  // Folds them all. The report gets one entry for each group, with means over the experts that were added, and `why` where
  // some were not ("8 of 32 experts …").
  void fold(EditableModel& model, const std::vector<FoldableExperts>& groups, const std::string& why, ThreadPool& pool,
            TransformReport& report) const;

 private:
  struct Group {
    std::vector<double> scales;  // (n_experts, n_cols), ones at first
    TransformedGroup sum;
    size_t n_experts = 0;  // that were added
  };
  std::map<std::string, Group> groups_;  // by the first linear
};

}  // namespace tsubu
