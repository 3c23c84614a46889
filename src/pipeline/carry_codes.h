// From a quantized Hugging Face layout to a GGUF type of the same grid, code by code: 4-bit integers in groups of 32 or a
// multiple to Q4_0 and Q4_1. Values differ from the source's only where GGUF multiplies in F32 what the
// layout's clients round to 16 bits.
#pragma once

#include "codec/type_info.h"
#include "model/model.h"

namespace tsubu {

// Whether every block of the tensor is one of the type: looks at all scales and zeros.
bool can_carry_codes(const ModelTensor& tensor, const TypeInfo& type);
// Blocks of rows [first, first + n) in GGUF's order. Only when can_carry_codes().
void carry_codes(const ModelTensor& tensor, const TypeInfo& type, uint64_t first, uint64_t n, std::byte* blocks);

}  // namespace tsubu
