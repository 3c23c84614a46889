// Experts rounded with calibration text: each against the Gram matrix of its own tokens (expert_grams.h), by the methods of
// dense linears. Of each matrix the method's result is kept where it leaves less of the form of the held-out tokens than
// plain search, as for dense linears; those are shrunk, too.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "pipeline/calibrated.h"
#include "pipeline/expert_grams.h"

namespace tsubu {

// A tensor of all experts.
struct RoundedExperts {
  std::vector<std::byte> bytes;
  std::string method;  // "search" where all are
  double error = 0, search_error = 0;  // per token on held-out text, of the matrices' linears alone; 0: not measured
  size_t n_methods = 0, n_searched = 0, n_unseen = 0;  // matrices rounded by the method; by search; those without tokens of their own
};

// tensors: those that read the input, all with quantized types; types without a grid are searched. method: the name of what
// `options` do. Errors as round_rows'.
std::vector<RoundedExperts> round_experts(const std::vector<const PlannedTensor*>& tensors, ExpertGrams& grams,
                                          const CalibratedOptions& options, const std::string& method, ThreadPool& pool);

// What to say of them: one line for each tensor where search was kept or tokens were missing.
void note_experts(const std::string& name, const RoundedExperts& rounded, std::vector<std::string>& notes);

}  // namespace tsubu
