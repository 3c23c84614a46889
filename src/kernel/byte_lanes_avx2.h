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
  static TSUBU_INLINE V add(V x, V y) { return {_mm256_add_epi8(x.a, y.a), _mm256_add_epi8(x.b, y.b)}; }
  static TSUBU_INLINE V mul_low(V x, V y) {
    const auto half = [](__m256i p, __m256i q) __attribute__((always_inline)) {
      const __m256i odd = _mm256_mullo_epi16(_mm256_srli_epi16(p, 8), _mm256_srli_epi16(q, 8));
      return _mm256_or_si256(_mm256_and_si256(_mm256_mullo_epi16(p, q), _mm256_set1_epi16(255)), _mm256_slli_epi16(odd, 8));
    };
    return {half(x.a, y.a), half(x.b, y.b)};
  }
  static TSUBU_INLINE V at_least(V x, uint8_t y) {
    const __m256i least = _mm256_set1_epi8(static_cast<char>(y));
    return {_mm256_cmpeq_epi8(_mm256_max_epu8(x.a, least), x.a), _mm256_cmpeq_epi8(_mm256_max_epu8(x.b, least), x.b)};
  }
  static TSUBU_INLINE V of_words(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    using S = long long;
    return {_mm256_setr_epi64x(static_cast<S>(a), static_cast<S>(b), static_cast<S>(c), static_cast<S>(d)),
            _mm256_setr_epi64x(static_cast<S>(e), static_cast<S>(f), static_cast<S>(g), static_cast<S>(h))};
  }
  static TSUBU_INLINE V gather(const uint32_t* table, I i) {
    const int* words = reinterpret_cast<const int*>(table);
    return {_mm256_i32gather_epi32(words, i.a, 4), _mm256_i32gather_epi32(words, i.b, 4)};
  }
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
  // The same for u of at most 127, which does not saturate.
  static TSUBU_INLINE I dot4_low(I acc, V u, V s) {
    const __m256i one = _mm256_set1_epi16(1);
    return {_mm256_add_epi32(acc.a, _mm256_madd_epi16(_mm256_maddubs_epi16(u.a, s.a), one)),
            _mm256_add_epi32(acc.b, _mm256_madd_epi16(_mm256_maddubs_epi16(u.b, s.b), one))};
  }
  static TSUBU_INLINE I dot4_all_low(I acc, V u, const int8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, 4);
    const __m256i s = _mm256_set1_epi32(four);
    return dot4_low(acc, u, {s, s});
  }
  // Sums of two products each, sixteen bits wide: they meet their scales, or ones, as they are widened.
  struct Words { __m256i a, b; };
  static TSUBU_INLINE __m256i all(const int8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, 4);
    return _mm256_set1_epi32(four);
  }
  static TSUBU_INLINE Words word_products(V u, const int8_t* p) {
    const __m256i s = all(p);
    return {_mm256_maddubs_epi16(u.a, s), _mm256_maddubs_epi16(u.b, s)};
  }
  // magnitude: that of `code`, signed bytes.
  static TSUBU_INLINE Words signed_word_products(V magnitude, V code, const int8_t* p) {
    const __m256i s = all(p);
    return {_mm256_maddubs_epi16(magnitude.a, _mm256_sign_epi8(s, code.a)), _mm256_maddubs_epi16(magnitude.b, _mm256_sign_epi8(s, code.b))};
  }
  static TSUBU_INLINE V magnitude(V x) { return {_mm256_abs_epi8(x.a), _mm256_abs_epi8(x.b)}; }
  static TSUBU_INLINE Words add(Words x, Words y) { return {_mm256_add_epi16(x.a, y.a), _mm256_add_epi16(x.b, y.b)}; }
  // A number below 2^15 in both words of its lane.
  static TSUBU_INLINE Words both_words(I x) {
    const auto both = [](__m256i v) __attribute__((always_inline)) {
      return _mm256_or_si256(_mm256_and_si256(v, _mm256_set1_epi32(0xffff)), _mm256_slli_epi32(v, 16));
    };
    return {both(x.a), both(x.b)};
  }
  static TSUBU_INLINE I add_words(I acc, Words x, Words scale) {
    return {_mm256_add_epi32(acc.a, _mm256_madd_epi16(x.a, scale.a)), _mm256_add_epi32(acc.b, _mm256_madd_epi16(x.b, scale.b))};
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
  // Sixteen rows side by side, a row in each lane where sums meet their scales.
  static constexpr bool kSixteenRows = true;
  // Lane r: the sum of the lanes of eight(r), r = first … first + 7.
  template <class Eight>
  static TSUBU_INLINE __m256i sums8(Eight eight, int first) {
    const auto pair = [](__m256i x, __m256i y) __attribute__((always_inline)) {
      return _mm256_add_epi32(_mm256_unpacklo_epi32(x, y), _mm256_unpackhi_epi32(x, y));
    };
    const auto four = [&](int r) __attribute__((always_inline)) {
      const __m256i low = pair(eight(r), eight(r + 1)), high = pair(eight(r + 2), eight(r + 3));
      return _mm256_add_epi32(_mm256_unpacklo_epi64(low, high), _mm256_unpackhi_epi64(low, high));
    };
    const __m256i x = four(first), y = four(first + 4);
    return _mm256_add_epi32(_mm256_permute2x128_si256(x, y, 0x20), _mm256_permute2x128_si256(x, y, 0x31));
  }
  // Lane r of x and y: the sums of the lower and of the upper eight lanes of v[r].
  static TSUBU_INLINE void half_sums16(const I* v, I& x, I& y) {
    const auto lower = [v](int r) __attribute__((always_inline)) { return v[r].a; };
    const auto upper = [v](int r) __attribute__((always_inline)) { return v[r].b; };
    x = {sums8(lower, 0), sums8(lower, 8)};
    y = {sums8(upper, 0), sums8(upper, 8)};
  }
  static TSUBU_INLINE I sums16(const I* v) {
    const auto both = [v](int r) __attribute__((always_inline)) { return _mm256_add_epi32(v[r].a, v[r].b); };
    return {sums8(both, 0), sums8(both, 8)};
  }
  // Lane r: the float with the bits at(r).
  template <class At>
  static TSUBU_INLINE L::F f16_of_rows(At at) {
    const auto eight = [&](size_t r) __attribute__((always_inline)) {
      const auto bits = [&](size_t i) __attribute__((always_inline)) { return static_cast<short>(at(r + i)); };
      return _mm256_cvtph_ps(_mm_setr_epi16(bits(0), bits(1), bits(2), bits(3), bits(4), bits(5), bits(6), bits(7)));
    };
    return {eight(0), eight(8)};
  }
  static TSUBU_INLINE float f16(uint16_t bits) { return _cvtsh_ss(bits); }
};

}  // namespace tsubu
