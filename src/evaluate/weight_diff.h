// A candidate's weights against its base's, tensor by tensor, decoded: where two models differ, and whether the
// difference is what rounding to the candidate's types makes or something else.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/remark.h"
#include "base/threads.h"
#include "model/model.h"

namespace tsubu {

inline constexpr uint64_t kOpposedRun = 32;

struct TensorDifference {
  std::string name, type, base_type;  // types as people know them: "Q4_K", "int4 group=128 asym"
  bool is_float = false;              // the candidate's
  double rel_error = 0;  // ‖ŵ − w‖ / ‖w‖
  double cosine = 1;     // of ŵ and w
  double expected = 0;  // rel_error of plain rounding to the type on a few rows (0: a float type, or not to be encoded)
  double same_rows = 0;  // rel_error of the candidate on those rows
  uint64_t worst_row = 0;
  double worst_row_error = 0;
  uint64_t group = 0;        // weights of a run
  uint64_t dead_groups = 0;  // runs of weights that are one single value, where the base's are not
  uint64_t dead_row = 0, dead_column = 0;  // of the first
  uint64_t foreign_rows = 0;  // rows that are not the base's, where the tensor as a whole is
  uint64_t foreign_row = 0;               // the first
  std::optional<uint64_t> foreign_origin;  // the base's row that it holds
  uint64_t opposed_runs = 0;  // runs of kOpposedRun weights that point the other way
  uint64_t opposed_row = 0, opposed_column = 0;
  uint64_t scaled_runs = 0;   // runs of kOpposedRun weights that are larger or smaller than those of the rest of the tensor
  uint64_t scaled_row = 0, scaled_column = 0;
  double scaled_by = 1;       // of the first
  // Of the runs' scales: the median, what 99 of 100 stay within of it, the farthest.
  double scale_middle = 1, scale_spread = 0, scale_farthest = 0;
  double least_row_cosine = 1, least_run_cosine = 1;  // of a row and of a run with its own, where there is weight enough
  std::string looks_like;    // the name of the base's tensor that it equals better, where its own does not fit
  Remark finding;         // what is wrong; empty: nothing
};

struct WeightDifferences {
  bool comparable = true;                  // false: the candidate was transformed (its metadata says how)
  Remark reason;                        // why not
  std::vector<TensorDifference> tensors;   // largest rel_error first
  std::vector<Remark> configuration;    // "rope base: 10000 in the base, 500000 here"
  uint32_t n_findings() const;
};

// What a tensor is stored as: "Q4_K", of a Hugging Face layout "int4 group=128 asym".
std::string stored_type(const ModelTensor& tensor);
// What the candidate says was done to its weights before rounding, names between spaces: a GGUF file in its metadata, a
// directory in the manifest beside its files; empty: nothing.
std::string transforms_of(const Model& candidate);
// Reads every tensor of both. Rows are compared in parallel; nothing depends on the number of threads.
WeightDifferences compare_weights(const Model& base, const Model& candidate, ThreadPool& pool);
Json to_json(const WeightDifferences& differences);

}  // namespace tsubu
