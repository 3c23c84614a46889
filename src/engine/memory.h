// What an engine will take, before it runs: for people and for limits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/engine.h"

namespace tsubu {

// Bytes of the buffers of an engine that has computed n_tokens together (Engine::scratch_bytes) and of a session for as many,
// at most: as if every token were routed to one expert and no weight were f32 in memory. Options: bf16_products and
// numerics.activations count, schemes of weights and act_int8 do not.
uint64_t predicted_engine_bytes(const Model& model, const EngineOptions& options, size_t n_tokens, int n_threads);

}  // namespace tsubu
