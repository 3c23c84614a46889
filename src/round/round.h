// Rounds a matrix onto a codec's grid against a curvature: error feedback (GPTQ / LDLQ) with scales chosen from the
// compensated weights, then coordinate descent over codes, scales and minimums. Rows are independent of each other.
// Sources: Frantar et al. 2210.17323; Chee et al. 2307.13304; scales per super-block at its entry and the descent: own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "base/threads.h"
#include "codec/type_info.h"
#include "round/curvature.h"

namespace tsubu {

struct RoundOptions {
  bool feedback = true;       // false: each block alone (the codec's own search), still a start for the descent
  bool choose_scales = true;  // integer scales again at each sub-block's entry
  int descent_passes = 2;     // over the matrix; 0: none
  bool codes_only = false;    // the descent leaves scales and minimums as they are
};

// Whether the methods here can round to this type.
bool can_round(const TypeInfo& type);

// w: (n_rows, curvature.n()) targets. out: the encoded rows; with `refine` they hold an encoding already, and only the
// descent runs. The result depends neither on the threads nor on how rows are cut into calls. n must be a multiple of
// the type's block.
void round_rows(const float* w, size_t n_rows, const TypeInfo& type, const Curvature& curvature,
                const RoundOptions& options, std::byte* out, ThreadPool& pool);
void refine_rows(const float* w, size_t n_rows, const TypeInfo& type, const Curvature& curvature,
                 const RoundOptions& options, std::byte* out, ThreadPool& pool);

// Σ over rows of r H rᵀ, r = w - decoded; in double over rows.
double form_error(const float* w, const std::byte* encoded, size_t n_rows, const TypeInfo& type, const float* h,
                  size_t n, ThreadPool& pool);

}  // namespace tsubu
