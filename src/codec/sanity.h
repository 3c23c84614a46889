// Whether stored weights are numbers at all: a NaN or an infinity in a scale spoils every product with its row, and no
// method can quantize it away. Meant to run at reading speed over whole tensors.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "codec/type_info.h"

namespace tsubu {

// The index of the first block whose scales are not finite (for plain floats: of the first value; doubles beyond the
// range of float count as infinite), or nothing. data is whole blocks; a rest shorter than a block is not looked at.
std::optional<size_t> first_invalid_block(const TypeInfo& type, std::span<const std::byte> data);

}  // namespace tsubu
