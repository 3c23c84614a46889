// Super-blocks of a tile of sixteen rows times several tokens, with AVX-512: what belongs to sub-blocks as a whole (minimums, or
// the bias of the codes) is a product of bytes too. A column sum s of sixteen or of 32 columns is taken apart into bytes,
// s = 64 upper + lower; a tile holds minimums (or signed scales, where codes have a bias) as bytes, four sub-blocks to a lane.
#pragma once

#include "codec/packed.h"
#include "kernel/byte_lanes_avx512.h"

namespace tsubu {

template <class C>
struct WideTile {
  using P = PackedForm<C>;
  static constexpr bool kMins = P::kHasMins, kBias = P::kBias != 0;
  static_assert(kMins != kBias, "super-blocks have either");
  static constexpr size_t kSubs = 256 / P::kSub, kWords = kSubs / 4;  // sub-blocks; lanes of bytes for each row
  static constexpr int kShift = 2048;                                // makes a sum of sixteen codes unsigned

  // Column sums of 256 columns in bytes: upper parts, then lower ones. Unsigned for codes with a bias, whose scales are signed.
  static TSUBU_INLINE void split(const int32_t* of_16, uint8_t* parts) {
    __m512i sums = _mm512_loadu_si512(of_16);
    if constexpr (kBias) sums = _mm512_add_epi32(sums, _mm512_set1_epi32(kShift));
    if constexpr (kSubs == 8) {
      sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32(sums, _MM_PERM_CDAB));
      _mm_storel_epi64(reinterpret_cast<__m128i*>(parts), _mm512_cvtepi64_epi8(_mm512_srai_epi32(sums, 6)));
      _mm_storel_epi64(reinterpret_cast<__m128i*>(parts + 8), _mm512_cvtepi64_epi8(_mm512_and_si512(sums, _mm512_set1_epi32(63))));
    } else {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(parts), _mm512_cvtepi32_epi8(_mm512_srai_epi32(sums, 6)));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(parts + 16), _mm512_cvtepi32_epi8(_mm512_and_si512(sums, _mm512_set1_epi32(63))));
    }
  }
  static constexpr size_t kPartBytes = 2 * kSubs;

  // Where the byte of sub-block s of row r stands.
  static constexpr size_t at(size_t block, size_t s, size_t row) { return ((block * kWords + s / 4) * 16 + row) * 4 + s % 4; }

  // Σ min · sum, or bias · Σ scale · sum, for sixteen rows: bytes are kWords vectors, excess (with a bias) is
  // bias · kShift · Σ scale of each row.
  static TSUBU_INLINE __m512i weighted(const __m512i* bytes, const uint8_t* parts, __m512i excess) {
    const auto add = [&](__m512i acc, size_t part) __attribute__((always_inline)) {
#pragma GCC unroll 4
      for (size_t w = 0; w < kWords; ++w) {
        int32_t four;
        __builtin_memcpy(&four, parts + part * kSubs + 4 * w, 4);
        const __m512i sums = _mm512_set1_epi32(four);
        acc = kMins ? _mm512_dpbusd_epi32(acc, bytes[w], sums) : _mm512_dpbusd_epi32(acc, sums, bytes[w]);
      }
      return acc;
    };
    const __m512i sum = add(_mm512_slli_epi32(add(_mm512_setzero_si512(), 0), 6), 1);
    if constexpr (kMins) return sum;
    return _mm512_sub_epi32(_mm512_slli_epi32(sum, __builtin_ctz(static_cast<unsigned>(P::kBias))), excess);
  }
};

}  // namespace tsubu
