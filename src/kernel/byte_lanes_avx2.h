// The byte vocabulary (codec/byte_lanes.h) in AVX2: two registers a value.
#pragma once

#include "codec/byte_lanes.h"
#include "kernel/lanes_avx2.h"

namespace tsubu {

struct Avx2Bytes {
  using L = Avx2Lanes;
  using I = L::I;
  struct V { __m256i a, b; };
  static TSUBU_INLINE __m256i half(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static TSUBU_INLINE V load(const void* p) { return {half(p), half(static_cast<const uint8_t*>(p) + 32)}; }
  static TSUBU_INLINE V load_halves(const void* a, const void* b) { return {half(a), half(b)}; }
  static TSUBU_INLINE void store(void* p, V x) {
    _mm256_storeu_si256(static_cast<__m256i*>(p), x.a);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(static_cast<uint8_t*>(p) + 32), x.b);
  }
  static TSUBU_INLINE V nibbles(const uint8_t* p) {
    const __m256i x = half(p);
    return bit_and({x, _mm256_srli_epi16(x, 4)}, set1(15));
  }
  static TSUBU_INLINE V nibbles16(const uint8_t* a, const uint8_t* b) {
    const auto both = [](const uint8_t* p) __attribute__((always_inline)) {
      const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
      return _mm256_inserti128_si256(_mm256_castsi128_si256(x), _mm_srli_epi16(x, 4), 1);
    };
    return bit_and({both(a), both(b)}, set1(15));
  }
  static TSUBU_INLINE V set1(uint8_t x) {
    const __m256i v = _mm256_set1_epi8(static_cast<char>(x));
    return {v, v};
  }
  static TSUBU_INLINE V bit_and(V x, V y) { return {_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)}; }
  static TSUBU_INLINE V bit_or(V x, V y) { return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
  static TSUBU_INLINE V bit_xor(V x, V y) { return {_mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b)}; }
  static TSUBU_INLINE V shift_right(V x, int n) {
    const __m128i count = _mm_cvtsi32_si128(n);
    return {_mm256_srl_epi16(x.a, count), _mm256_srl_epi16(x.b, count)};
  }
  static TSUBU_INLINE V shift_left(V x, int n) {
    const __m128i count = _mm_cvtsi32_si128(n);
    return {_mm256_sll_epi16(x.a, count), _mm256_sll_epi16(x.b, count)};
  }
  static TSUBU_INLINE V shifted_halves(const void* p, int n, int m) {
    const __m256i x = half(p);
    return {_mm256_srli_epi16(x, n), _mm256_srli_epi16(x, m)};
  }
  static TSUBU_INLINE V spread_bits(uint64_t bits, uint8_t value) {
    const auto spread = [value](uint32_t word) __attribute__((always_inline)) {
      const __m256i byte_of = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
      const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(word)), byte_of);
      const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201ull));
      return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit),
                              _mm256_set1_epi8(static_cast<char>(value)));
    };
    return {spread(static_cast<uint32_t>(bits)), spread(static_cast<uint32_t>(bits >> 32))};
  }
  static TSUBU_INLINE V lookup16(const uint8_t* table, V x) {
    const __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
    return {_mm256_shuffle_epi8(t, x.a), _mm256_shuffle_epi8(t, x.b)};
  }
  // maddubs saturates pairs of products at 2^15: top bits go separately, at most 2 · 128 · 127 either way.
  static TSUBU_INLINE __m256i dot4(__m256i acc, __m256i u, __m256i s) {
    const __m256i one = _mm256_set1_epi16(1), low = _mm256_set1_epi8(127), high = _mm256_set1_epi8(-128);
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_and_si256(u, low), s), one));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_and_si256(u, high), s), one));
  }
  static TSUBU_INLINE I dot4(I acc, V u, V s) { return {dot4(acc.a, u.a, s.a), dot4(acc.b, u.b, s.b)}; }
  static TSUBU_INLINE I dot4_all(I acc, V u, const int8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, 4);
    const __m256i s = _mm256_set1_epi32(four);
    return {dot4(acc.a, u.a, s), dot4(acc.b, u.b, s)};
  }
  static TSUBU_INLINE I pairs(const uint8_t* p) {
    const __m128i x = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)), both = _mm_unpacklo_epi8(x, x);
    return {_mm256_cvtepu8_epi32(both), _mm256_cvtepu8_epi32(_mm_srli_si128(both, 8))};
  }
  template <int c> static TSUBU_INLINE I quarter(I x) {
    constexpr int k = c % 2 * 4;
    const __m256i from = c < 2 ? x.a : x.b;
    return {_mm256_permutevar8x32_epi32(from, _mm256_setr_epi32(k, k, k, k, k + 1, k + 1, k + 1, k + 1)),
            _mm256_permutevar8x32_epi32(from, _mm256_setr_epi32(k + 2, k + 2, k + 2, k + 2, k + 3, k + 3, k + 3, k + 3))};
  }
  static TSUBU_INLINE int32_t sum_256(__m256i b) {
    const __m128i c = _mm_add_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
    const __m128i d = _mm_add_epi32(c, _mm_shuffle_epi32(c, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(d, _mm_shuffle_epi32(d, 0xb1)));
  }
  static TSUBU_INLINE int32_t sum(I x) { return sum_256(_mm256_add_epi32(x.a, x.b)); }
  static TSUBU_INLINE void half_sums(I x, int32_t* out) {
    out[0] = sum_256(x.a);
    out[1] = sum_256(x.b);
  }
  static TSUBU_INLINE float f16(uint16_t bits) { return _cvtsh_ss(bits); }
};

}  // namespace tsubu
