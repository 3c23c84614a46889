// What a backward pass will take, before it runs: for people and for limits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gradient/backward.h"

namespace tsubu {

struct BackwardUse {
  size_t n_tokens = 0;      // of the longest window: Backward::reserve
  int n_threads = 1;
  uint64_t kept_bytes = 0;  // Backward::keep_values
  bool goes_back = true;    // else Backward::forward alone
  BackwardOptions options = {};
};

// Bytes that a Backward holds after windows of n_tokens went through it (Backward::scratch_bytes), at most: the buffers that
// are lent, exactly, by the same walk over the graph; scratch of the products and of attention, the engine's buffers, keys and
// values. What a GradientSink keeps is its own.
uint64_t predicted_backward_bytes(const Model& model, const BackwardUse& use);

}  // namespace tsubu
