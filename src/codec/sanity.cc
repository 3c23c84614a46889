#include "codec/sanity.h"

#include <algorithm>
#include <array>
#include <bit>

#include "codec/codecs.h"

namespace tsubu {
namespace {

using FirstInvalid = std::optional<size_t> (*)(const std::byte* bytes, size_t n_blocks);

// A codec may say what makes a block valid; otherwise its decoded values must be finite.
template <class C>
concept KnowsFiniteScales = requires(const typename C::Block& block) { C::has_finite_scales(block); };

constexpr size_t kChunkLen = 4096;  // values; a multiple of every block length

template <class C>
bool all_valid(const typename C::Block* blocks, size_t n_blocks) {
  static_assert(kChunkLen % C::kBlockLen == 0);
  if constexpr (KnowsFiniteScales<C>) {
    bool valid = true;  // no early exit: the loop runs without branches
    for (size_t i = 0; i < n_blocks; ++i) valid &= C::has_finite_scales(blocks[i]);
    return valid;
  } else {
    float values[kChunkLen];
    const size_t n = n_blocks * C::kBlockLen;
    decode_blocks<C, PortableLanes>(reinterpret_cast<const std::byte*>(blocks), values, n);
    bool valid = true;
    for (size_t i = 0; i < n; ++i) valid &= (std::bit_cast<uint32_t>(values[i]) & 0x7f800000u) != 0x7f800000u;
    return valid;
  }
}

template <class C>
std::optional<size_t> first_invalid(const std::byte* bytes, size_t n_blocks) {
  const auto* blocks = reinterpret_cast<const typename C::Block*>(bytes);
  constexpr size_t kChunkBlocks = kChunkLen / C::kBlockLen;
  for (size_t begin = 0; begin < n_blocks; begin += kChunkBlocks) {
    const size_t end = std::min(begin + kChunkBlocks, n_blocks);
    if (all_valid<C>(blocks + begin, end - begin)) continue;
    for (size_t i = begin; i < end; ++i)
      if (!all_valid<C>(blocks + i, 1)) return i;
  }
  return std::nullopt;
}

template <class... Codecs>
constexpr auto scanners(TypeList<Codecs...>) {
  return std::array<FirstInvalid, sizeof...(Codecs)>{first_invalid<Codecs>...};
}

constexpr auto kScanners = scanners(CodecList{});

}  // namespace

std::optional<size_t> first_invalid_block(const TypeInfo& type, std::span<const std::byte> data) {
  return kScanners[type.index](data.data(), data.size() / type.block_bytes);
}

}  // namespace tsubu
