// The byte vocabulary (codec/byte_lanes.h) in AVX-512 with VNNI.
#pragma once

#include "codec/byte_lanes.h"
#include "kernel/lanes_avx512.h"

namespace tsubu {

struct Avx512Bytes {
  using L = Avx512Lanes;
  using I = __m512i;
  using V = __m512i;
  static TSUBU_INLINE V load(const void* p) { return _mm512_loadu_si512(p); }
  static TSUBU_INLINE V load_halves(const void* a, const void* b) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(static_cast<const __m256i*>(a))),
                              _mm256_loadu_si256(static_cast<const __m256i*>(b)), 1);
  }
  static TSUBU_INLINE void store(void* p, V a) { _mm512_storeu_si512(p, a); }
  static TSUBU_INLINE V nibbles(const uint8_t* p) {
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_and_si512(_mm512_inserti64x4(_mm512_castsi256_si512(a), _mm256_srli_epi16(a, 4), 1), set1(15));
  }
  static TSUBU_INLINE V nibbles16(const uint8_t* a, const uint8_t* b) {
    const auto both = [](const uint8_t* p) __attribute__((always_inline)) {
      const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
      return _mm256_inserti128_si256(_mm256_castsi128_si256(x), _mm_srli_epi16(x, 4), 1);
    };
    return _mm512_and_si512(_mm512_inserti64x4(_mm512_castsi256_si512(both(a)), both(b), 1), set1(15));
  }
  static TSUBU_INLINE V set1(uint8_t x) { return _mm512_set1_epi8(static_cast<char>(x)); }
  static TSUBU_INLINE V bit_and(V a, V b) { return _mm512_and_si512(a, b); }
  static TSUBU_INLINE V bit_or(V a, V b) { return _mm512_or_si512(a, b); }
  static TSUBU_INLINE V bit_xor(V a, V b) { return _mm512_xor_si512(a, b); }
  static TSUBU_INLINE V add(V a, V b) { return _mm512_add_epi8(a, b); }
  static TSUBU_INLINE V mul_low(V a, V b) {
    const V even = _mm512_and_si512(_mm512_mullo_epi16(a, b), _mm512_set1_epi16(255));
    return _mm512_or_si512(even, _mm512_slli_epi16(_mm512_mullo_epi16(_mm512_srli_epi16(a, 8), _mm512_srli_epi16(b, 8)), 8));
  }
  static TSUBU_INLINE V at_least(V a, uint8_t x) { return _mm512_movm_epi8(_mm512_cmpge_epu8_mask(a, set1(x))); }
  static TSUBU_INLINE V of_words(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    using S = long long;
    return _mm512_setr_epi64(static_cast<S>(a), static_cast<S>(b), static_cast<S>(c), static_cast<S>(d), static_cast<S>(e),
                             static_cast<S>(f), static_cast<S>(g), static_cast<S>(h));
  }
  static TSUBU_INLINE V gather(const uint32_t* table, I i) { return _mm512_i32gather_epi32(i, table, 4); }
  static TSUBU_INLINE V shift_right(V a, int n) { return _mm512_srli_epi16(a, static_cast<unsigned>(n)); }
  static TSUBU_INLINE V shift_left(V a, int n) { return _mm512_slli_epi16(a, static_cast<unsigned>(n)); }
  static TSUBU_INLINE V shifted_halves(const void* p, int n, int m) {
    const __m256i a = _mm256_loadu_si256(static_cast<const __m256i*>(p));
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_srli_epi16(a, n)), _mm256_srli_epi16(a, m), 1);
  }
  static TSUBU_INLINE V spread_bits(uint64_t bits, uint8_t value) { return _mm512_maskz_mov_epi8(bits, set1(value)); }
  static TSUBU_INLINE V lookup16(const uint8_t* table, V a) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table))), a);
  }
  static TSUBU_INLINE I dot4(I acc, V u, V s) { return _mm512_dpbusd_epi32(acc, u, s); }
  static TSUBU_INLINE I dot4_all(I acc, V u, const int8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, 4);
    return _mm512_dpbusd_epi32(acc, u, _mm512_set1_epi32(four));
  }
  static TSUBU_INLINE I pairs(const uint8_t* p) {
    const __m128i x = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return _mm512_cvtepu8_epi32(_mm_unpacklo_epi8(x, x));
  }
  template <int c> static TSUBU_INLINE I quarter(I a) {
    const I index = _mm512_setr_epi32(4 * c, 4 * c, 4 * c, 4 * c, 4 * c + 1, 4 * c + 1, 4 * c + 1, 4 * c + 1, 4 * c + 2,
                                      4 * c + 2, 4 * c + 2, 4 * c + 2, 4 * c + 3, 4 * c + 3, 4 * c + 3, 4 * c + 3);
    return _mm512_permutexvar_epi32(index, a);
  }
  static TSUBU_INLINE int32_t sum_256(__m256i b) {
    const __m128i c = _mm_add_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
    const __m128i d = _mm_add_epi32(c, _mm_shuffle_epi32(c, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(d, _mm_shuffle_epi32(d, 0xb1)));
  }
  static TSUBU_INLINE int32_t sum(I a) {
    return sum_256(_mm256_add_epi32(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1)));
  }
  static TSUBU_INLINE void half_sums(I a, int32_t* out) {
    const __m512i b = _mm512_add_epi32(a, _mm512_shuffle_epi32(a, _MM_PERM_BADC));
    const __m512i c = _mm512_add_epi32(b, _mm512_shuffle_epi32(b, _MM_PERM_CDAB));
    const __m256i low = _mm512_castsi512_si256(c), high = _mm512_extracti64x4_epi64(c, 1);
    out[0] = _mm_cvtsi128_si32(_mm_add_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)));
    out[1] = _mm_cvtsi128_si32(_mm_add_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)));
  }
  // Sixteen rows side by side: a reduction for sixteen values costs a third of sixteen reductions.
  static constexpr bool kSixteenRows = true;
  // Lane r: the sum of lanes 4q … 4q + 3 of v[r] in 128-bit lane q; r = 4i … 4i + 3.
  static TSUBU_INLINE I quarter_sums(const I* v) {
    const auto pair = [](I a, I b) __attribute__((always_inline)) {
      return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    };
    const I low = pair(v[0], v[1]), high = pair(v[2], v[3]);
    return _mm512_add_epi32(_mm512_unpacklo_epi64(low, high), _mm512_unpackhi_epi64(low, high));
  }
  // Lane r of a and b: the sums of the lower and of the upper eight lanes of v[r].
  static TSUBU_INLINE void half_sums16(const I* v, I& a, I& b) {
    const auto halves = [](I p, I q) __attribute__((always_inline)) {
      return _mm512_add_epi32(_mm512_shuffle_i32x4(p, q, 0x88), _mm512_shuffle_i32x4(p, q, 0xdd));
    };
    const I first = halves(quarter_sums(v), quarter_sums(v + 4)), second = halves(quarter_sums(v + 8), quarter_sums(v + 12));
    a = _mm512_shuffle_i32x4(first, second, 0x88);
    b = _mm512_shuffle_i32x4(first, second, 0xdd);
  }
  static TSUBU_INLINE I sums16(const I* v) {
    I a, b;
    half_sums16(v, a, b);
    return _mm512_add_epi32(a, b);
  }
  // Lane r: the float with the bits at(r).
  template <class At>
  static TSUBU_INLINE __m512 f16_of_rows(At at) {
    const auto eight = [&](size_t r) __attribute__((always_inline)) {
      __m128i x = _mm_cvtsi32_si128(at(r));
      x = _mm_insert_epi16(x, at(r + 1), 1);
      x = _mm_insert_epi16(x, at(r + 2), 2);
      x = _mm_insert_epi16(x, at(r + 3), 3);
      x = _mm_insert_epi16(x, at(r + 4), 4);
      x = _mm_insert_epi16(x, at(r + 5), 5);
      x = _mm_insert_epi16(x, at(r + 6), 6);
      return _mm_insert_epi16(x, at(r + 7), 7);
    };
    return _mm512_cvtph_ps(_mm256_inserti128_si256(_mm256_castsi128_si256(eight(0)), eight(8), 1));
  }
  static TSUBU_INLINE float f16(uint16_t bits) { return _cvtsh_ss(bits); }
};

}  // namespace tsubu
