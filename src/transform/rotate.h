// Rotations that fold into the weights (QuaRot, arXiv:2404.00456; SpinQuant, arXiv:2405.16406): R1 of the residual
// stream and R2 of each value head. Random Hadamard where the size has one (orthogonal.h), seeded.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "transform/editable_model.h"

namespace tsubu {

// R1: everything that writes the residual stream writes xᵀQ instead of x, everything that reads it turns it back; norm
// gains are moved into the readers first and become ones, a tied head gets a matrix of its own. Throws
// Error(kUnsupported) for a model with layer norms, whose mean does not commute with a rotation, and for one whose
// stream is used in another way. Returns what there is to say about it.
std::vector<std::string> rotate_residual(EditableModel& model, uint64_t seed, ThreadPool& pool);

// R2: the value rows of every key/value head, and the output projection's columns that read them, one matrix for each
// layer. Returns what there is to say about it.
std::vector<std::string> rotate_heads(EditableModel& model, uint64_t seed, ThreadPool& pool);

}  // namespace tsubu
