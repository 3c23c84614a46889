// What a type leaves continuous when the codes stay: the f16 scales (and minimums) of its blocks. A block's weights are
// linear in them.
#pragma once

#include <cstdint>
#include <span>

#include "codec/type_info.h"

namespace tsubu {

// Byte offsets in a block; none: the type has no such field (MXFP4's exponents, IQ1_M's scattered scale).
std::span<const uint32_t> scale_fields(const TypeInfo& type);

}  // namespace tsubu
