// Encode and decode of every codec for one instruction set: the templates of codec/ in this unit's lanes.
#include "codec/codecs.h"
#include "kernel/kernels.h"
#include "kernel/lanes.h"

namespace tsubu::TSUBU_ISA {
namespace {

template <class C>
void fill_codec(Kernels& kernels, size_t index) {
  kernels.decode[index] = decode_blocks<C, Lanes>;
  if constexpr (Encodable<C>) kernels.encode[index] = encode_blocks<C, Lanes>;
}

template <class... Codecs>
void fill_list(Kernels& kernels, TypeList<Codecs...>) {
  static_assert(sizeof...(Codecs) <= kMaxTypes);
  size_t index = 0;
  (fill_codec<Codecs>(kernels, index++), ...);
}

}  // namespace

void fill_codec_kernels(Kernels& kernels) { fill_list(kernels, CodecList{}); }

}  // namespace tsubu::TSUBU_ISA
