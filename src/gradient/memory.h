// What a backward pass will take, before it runs: for people and for limits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/model.h"

namespace tsubu {

// Bytes of values and gradients of a pass over windows of n_tokens (Backward::scratch_bytes afterwards), from the graph: the
// boundaries of all blocks, the block with the most values and gradients at once, the head's logits, scratch of the
// products. Within a quarter of what it takes; the engine's own buffers and the cache of one window are not counted.
// kept_bytes: as for Backward::keep_values.
uint64_t predicted_backward_bytes(const Model& model, size_t n_tokens, int n_threads, uint64_t kept_bytes = 0);

}  // namespace tsubu
