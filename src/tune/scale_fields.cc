#include "tune/scale_fields.h"

#include <array>
#include <cstddef>
#include <type_traits>

#include "codec/codecs.h"

namespace tsubu {
namespace {

struct Fields {
  std::array<uint32_t, 2> offsets = {};
  size_t n = 0;
};

template <class C>
constexpr Fields fields_of() {
  Fields f;
  if constexpr (C::kIsQuantized) {
    using Block = typename C::Block;
    if constexpr (std::is_same_v<C, Q8_1>) return f;  // its sums are made of the scales
    if constexpr (requires { requires std::is_same_v<decltype(Block::d), Half>; })
      f.offsets[f.n++] = static_cast<uint32_t>(offsetof(Block, d));
    if constexpr (requires { requires std::is_same_v<decltype(Block::dmin), Half>; })
      f.offsets[f.n++] = static_cast<uint32_t>(offsetof(Block, dmin));
    if constexpr (requires { requires std::is_same_v<decltype(Block::m), Half>; })
      f.offsets[f.n++] = static_cast<uint32_t>(offsetof(Block, m));
  }
  return f;
}

template <class... Codecs>
constexpr auto fields_of_all(TypeList<Codecs...>) {
  return std::array<Fields, sizeof...(Codecs)>{fields_of<Codecs>()...};
}

constexpr auto kFields = fields_of_all(CodecList{});

}  // namespace

std::span<const uint32_t> scale_fields(const TypeInfo& type) {
  const Fields& f = kFields[type.index];
  return {f.offsets.data(), f.n};
}

}  // namespace tsubu
