// What products of packed weights share, over the byte vocabulary B: a block's factor as a float, the codes of parts of 32
// columns, and the product of four bytes by the fewest instructions.
#pragma once

#include "codec/packed.h"
#include "codec/packed_points.h"
#include "codec/packed_small.h"

namespace tsubu {

// f<C>(index) for every codec of the list.
template <class Fn, class... Codecs>
TSUBU_INLINE void each_codec(TypeList<Codecs...>, Fn f) {
  size_t index = 0;
  (f.template operator()<Codecs>(index++), ...);
}

template <class P, class B, class Block>
TSUBU_INLINE float d_of(const Block& block) {
  if constexpr (requires { P::d_value(block); }) return P::d_value(block);
  else if constexpr (requires { P::kFactor; }) return B::f16(P::d(block)) * P::kFactor;
  else return B::f16(P::d(block));
}

// Codes of parts i and j of a row.
template <class C, class B>
TSUBU_INLINE typename B::V short_codes(const typename C::Block* row, size_t i, size_t j) {
  constexpr size_t kParts = kPackedParts<C>;
  if constexpr (kParts == 1) return PackedForm<C>::template codes<B>(row[i], row[j]);
  else return PackedForm<C>::template codes<B>(row[i / kParts], i % kParts, row[j / kParts], j % kParts);
}

template <class P, class B>
inline constexpr bool kLowDot = requires(typename B::I acc, typename B::V v) { B::dot4_low(acc, v, v); } && !requires { P::kByteCodes; };

template <class P, class B>
TSUBU_INLINE typename B::I dot4(typename B::I acc, typename B::V u, typename B::V s) {
  if constexpr (kLowDot<P, B>) return B::dot4_low(acc, u, s);
  else return B::dot4(acc, u, s);
}
template <class P, class B>
TSUBU_INLINE typename B::I dot4_all(typename B::I acc, typename B::V u, const int8_t* p) {
  if constexpr (kLowDot<P, B>) return B::dot4_all_low(acc, u, p);
  else return B::dot4_all(acc, u, p);
}

template <class P>
constexpr int most_code() {
  if constexpr (requires { P::kMostCode; }) return P::kMostCode;
  else return 127;
}

// Sums of products in words, for vocabularies that have them: how many steps of four columns fit, activations within ±127.
template <class P, class B>
inline constexpr bool kWordSums = requires { typename B::Words; };
template <class P>
inline constexpr bool kSignedCodes = requires { P::kByteCodes; };
template <class P, size_t sub>
constexpr size_t word_steps() {
  if (kSignedCodes<P>) return 1;
  size_t steps = 1;
  while (2 * steps <= sub / 4 && 2 * steps * 2 * 127 * static_cast<size_t>(most_code<P>()) <= 32767) steps *= 2;
  return steps;
}

}  // namespace tsubu
