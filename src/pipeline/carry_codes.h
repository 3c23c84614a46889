// From a quantized Hugging Face layout to a GGUF type of the same grid, code by code: 4-bit integers in groups of 32 or a
// multiple to Q4_0 and Q4_1, MXFP4 to MXFP4. Values differ from the source's only where GGUF multiplies in F32 what the
// layout's clients round to 16 bits.
#pragma once

#include "codec/type_info.h"
#include "model/model.h"

namespace tsubu {

// The layout's matrix behind a tensor, of experts that of the first; nullptr: not in such a layout.
const QuantMatrix* quantized_source(const ModelTensor& tensor);
// The GGUF type with the very blocks that the source has, which a conversion keeps; nullptr when there is none.
const TypeInfo* kept_type(const ModelTensor& tensor);
// Whether every block of the tensor is one of the type: looks at all scales and zeros.
bool can_carry_codes(const ModelTensor& tensor, const TypeInfo& type);
// Blocks of rows [first, first + n) in GGUF's order. Only when can_carry_codes().
void carry_codes(const ModelTensor& tensor, const TypeInfo& type, uint64_t first, uint64_t n, std::byte* blocks);

}  // namespace tsubu
