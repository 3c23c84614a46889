// Two models weight by weight, whatever layouts they lie in: B's values against A's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/threads.h"
#include "container/imatrix.h"
#include "model/model.h"

namespace tsubu {

struct TensorDistance {
  std::string name, type_a, type_b;  // GGUF name; "Q4_K", "gptq int4 group=128"
  std::vector<uint64_t> shape;
  double rel_l2 = 0;         // ‖b - a‖ / ‖a‖
  double rel_weighted = -1;  // √(Σ s (b - a)² / Σ s a²), s the mean squares of the inputs; -1 without statistics
  double snr_db = 0;         // -20 log10 rel_l2; 999 when equal
  double max_abs = 0;        // largest |b - a|
  double bits_a = 0, bits_b = 0;  // per weight
  uint64_t n_differ = 0;     // weights that are not equal
};

struct DiffResult {
  std::vector<TensorDistance> tensors;  // the worst first
  std::vector<std::string> only_a, only_b;
  uint64_t n_weights = 0, n_differ = 0;
  double rel_l2 = 0, rel_weighted = -1, bits_a = 0, bits_b = 0;  // over all tensors of both
};

// Throws Error(kBadInput) when a tensor has another shape in B, or statistics do not fit.
DiffResult diff_models(const Model& a, const Model& b, const Imatrix* stats, ThreadPool& pool);
Json to_json(const DiffResult& result);

}  // namespace tsubu
