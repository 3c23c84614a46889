// AWQ (Lin et al., arXiv:2306.00978): channels that see large activations are scaled up before rounding, s = E|x|^α,
// with α chosen for each group of linears by the error of their outputs after rounding to the type they will get; and
// the clipping search of the same paper. Differences from the paper's program: the error is that of the group's linears
// (not of the block), over all calibration tokens through their Gram matrix, with the codec that will really round.
#pragma once

#include <functional>
#include <string_view>

#include "transform/editable_model.h"
#include "transform/output_error.h"
#include "transform/report.h"

namespace tsubu {

struct AwqOptions {
  std::function<const TypeInfo*(const std::string& name)> type_of;  // of a matrix in the quantized model; nullptr: none
  // Where the model gets formats that are no types: how a matrix is rounded, empty for one that is not. Clipping needs types.
  std::function<RowRounding(const std::string& name)> rounding_of;
  bool importance = true;                                           // rounding will have an importance matrix
  int n_grid = 20;                                                  // α = 0, 1/n … (n-1)/n
  size_t max_rows = 512;                                            // of each matrix in the search; of an expert's a quarter
  uint64_t expert_memory = uint64_t{2} << 30;                       // bytes of experts' Gram matrices at a time
};

// Scales, folded into norms, up and v: the model's function stays the same. In a mixture router, experts and shared experts that
// read one norm get one scale for each channel (the router is not rounded, but has to see what it saw), chosen under the Gram matrix
// of all tokens; down of each expert has scales of its own, folded into its up, chosen by the tokens it got, if it got kFewestTokens.
void apply_awq(EditableModel& model, const ActivationSource& source, const AwqOptions& options, ThreadPool& pool,
               TransformReport& report);

// Clips the weights of every block of a row (the type's block) to the share of its largest, 1, 0.95 … 0.55, that gives
// the least error of the output after rounding. Query and key projections are left alone, as in the paper's program.
// This changes the model: it is a part of rounding that is done ahead.
void apply_clipping(EditableModel& model, const ActivationSource& source, const AwqOptions& options, ThreadPool& pool,
                    TransformReport& report);

}  // namespace tsubu
