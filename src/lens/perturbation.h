// Perturbations x + Δ of weights or activations, matched in relative L2 norm r = ‖Δ‖ / ‖x‖: noise whose size is
// independent of |x|, grows or falls with it; clipping of the largest values; and every codec, for which Δ is its error.
// Source of the kinds: Gong et al. 2403.06408 ("Lens of Perturbation"); exact forms own. ε: independent draws of mean 0.
//   gaussian    ε ~ N(0, 1)            uniform  ε ~ U(-1, 1)            rademacher  ε = ±1
//   M+          ε |x|                  M-       ε (max|x| - |x|)        (ε normal; max of the tensor, or of the token)
//   gamma=G     ε |x|^G, G in [-1, 1]  (|x| not below a hundredth of its root mean square)
//   rows        ε · rms of the row: as a codec's scales, which follow the row, would have it (weights)
//   clip=P      |x| cut to its quantile 1 - P; clip: to the quantile that gives r
//   TYPE        decode(encode(x)) - x, such as Q4_K; scaled to r when one is asked for
// Draws depend on the seed, the tensor's name and the row (or token) alone: same values for any number of threads.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/threads.h"
#include "model/model.h"

namespace tsubu {

struct PerturbationKind {
  std::string_view name, summary;
  bool has_parameter = false;                      // "gamma=0.5", "clip=0.001"
  bool for_activations = true;
};
std::span<const PerturbationKind> perturbation_kinds();  // codecs come besides: types() that can be encoded

struct Perturbation {
  const PerturbationKind* kind = nullptr;  // nullptr: the codec
  const TypeInfo* codec = nullptr;
  double parameter = 0;      // gamma; share clipped, 0: by r
  double r = 0;              // 0: whatever the codec or the clipping gives
  uint64_t seed = 1;

  bool is_random() const;    // differs with the seed
  std::string name() const;  // as parse_perturbation reads it
};
// Throws Error(kUsage) with what there is.
Perturbation parse_perturbation(std::string_view text);

struct PerturbedTensor {
  std::vector<float> values;  // (n_rows, n_cols)
  double r = 0;               // ‖Δ‖ / ‖x‖ as it came out
};
// importance: for codecs, n_cols mean squares or nullptr. Throws Error(kUsage) when a codec's blocks do not fit the rows.
PerturbedTensor perturb(const ModelTensor& tensor, const Perturbation& perturbation, const float* importance,
                        ThreadPool& pool);

// Rows x (n_rows, n_cols) in place, each row by itself (r, largest value, quantile of the row) or all together. key:
// names the draws, with first_row. Kinds for activations only; codecs whose block does not divide n_cols leave x alone.
void perturb_rows(float* x, size_t n_rows, size_t n_cols, const Perturbation& perturbation, bool each_row,
                  uint64_t key, uint64_t first_row, ThreadPool& pool);

// A number for draws that belong to a name.
uint64_t draw_key(std::string_view name);

}  // namespace tsubu
