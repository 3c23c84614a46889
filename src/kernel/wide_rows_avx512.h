// Sixteen rows of super-blocks times one token with AVX-512: codes are taken apart a cache line at a time, so they come in
// the order of the file and the activations are brought into it once; scales are words, and one instruction multiplies the
// word sums of pairs by them and adds. Integer sums are those of PackedForm, so the bits are too.
//   WideForm<C>::kOrder[j]   columns / 32 of the lower and of the upper half of code vector j
//   codes(block, v)          the four vectors of 64 unsigned codes, at most 64 each: sums of two products fit into words
//   scales(block, mins)      a word for each sub-block, in the low words; kMins bytes of minimums go to `mins`
#pragma once

#include "codec/packed.h"
#include "kernel/byte_lanes_avx512.h"

namespace tsubu {

template <class C>
struct WideForm {};

template <class C>
concept HasWideForm = requires { WideForm<C>::kOrder; };

struct WideBytes {
  using V = __m512i;
  static TSUBU_INLINE V load(const void* p) { return _mm512_loadu_si512(p); }
  static TSUBU_INLINE V of(uint8_t x) { return _mm512_set1_epi8(static_cast<char>(x)); }
  template <int n> static TSUBU_INLINE V right(V a) { return _mm512_srli_epi16(a, n); }
  template <int n> static TSUBU_INLINE V left(V a) { return _mm512_slli_epi16(a, n); }
  // (mask & (a << n)) or, for n < 0, a >> -n; of words, so the mask must not hold bits that neighbors move into.
  template <int n> static TSUBU_INLINE V bits(V a, V mask) {
    if constexpr (n > 0) a = left<n>(a);
    if constexpr (n < 0) a = right<-n>(a);
    return _mm512_and_si512(a, mask);
  }
  // 32 bytes, then the same bytes shifted right by n.
  template <int n> static TSUBU_INLINE V with_shifted(const void* p) {
    const __m256i a = _mm256_loadu_si256(static_cast<const __m256i*>(p));
    return _mm512_inserti64x4(_mm512_castsi256_si512(a), _mm256_srli_epi16(a, n), 1);
  }
  static TSUBU_INLINE V merge(V a, V b) { return _mm512_or_si512(a, b); }
  static TSUBU_INLINE __m128i load16(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
  static TSUBU_INLINE V words(__m256i a) { return _mm512_zextsi256_si512(a); }
};

struct WideAffineK {
  using W = WideBytes;
  static constexpr uint8_t kOrder[4][2] = {{0, 2}, {1, 3}, {4, 6}, {5, 7}};
  static constexpr size_t kMins = 8;
  static TSUBU_INLINE void nibbles(const uint8_t* p, __m512i* v) {
    const __m512i mask = W::of(15);
    for (int h = 0; h < 2; ++h) {
      const __m512i qs = W::load(p + 64 * h);
      v[2 * h] = W::bits<0>(qs, mask);
      v[2 * h + 1] = W::bits<-4>(qs, mask);
    }
  }
  template <class Block>
  static TSUBU_INLINE __m512i scales(const Block& b, uint8_t* mins) {
    const KScaleBytes s = k_scale_bytes(b.scales);
    __builtin_memcpy(mins, s.min, 8);
    uint64_t bytes;
    __builtin_memcpy(&bytes, s.scale, 8);
    return W::words(_mm256_zextsi128_si256(_mm_cvtepu8_epi16(_mm_cvtsi64_si128(static_cast<long long>(bytes)))));
  }
};

template <>
struct WideForm<Q4_K> : WideAffineK {
  static TSUBU_INLINE void codes(const Q4_K::Block& b, __m512i* v) { nibbles(b.qs, v); }
};

template <>
struct WideForm<Q5_K> : WideAffineK {
  static TSUBU_INLINE void codes(const Q5_K::Block& b, __m512i* v) {
    nibbles(b.qs, v);
    const __m512i fifth = W::with_shifted<2>(b.qh), mask = W::of(16);
    v[0] = W::merge(v[0], W::bits<4>(fifth, mask));
    v[1] = W::merge(v[1], W::bits<3>(fifth, mask));
    v[2] = W::merge(v[2], W::bits<0>(fifth, mask));
    v[3] = W::merge(v[3], W::bits<-1>(fifth, mask));
  }
};

struct WideTwoBits {
  using W = WideBytes;
  static constexpr uint8_t kOrder[4][2] = {{0, 4}, {1, 5}, {2, 6}, {3, 7}};
  static TSUBU_INLINE void low_bits(const uint8_t* qs, __m512i* v) {
    const __m512i all = W::load(qs), mask = W::of(3);
    v[0] = W::bits<0>(all, mask);
    v[1] = W::bits<-2>(all, mask);
    v[2] = W::bits<-4>(all, mask);
    v[3] = W::bits<-6>(all, mask);
  }
};

template <>
struct WideForm<Q2_K> : WideTwoBits {
  static constexpr size_t kMins = 16;
  static TSUBU_INLINE void codes(const Q2_K::Block& b, __m512i* v) { low_bits(b.qs, v); }
  static TSUBU_INLINE __m512i scales(const Q2_K::Block& b, uint8_t* mins) {
    const __m128i both = W::load16(b.scales), nibble = _mm_set1_epi8(15);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(mins), _mm_and_si128(_mm_srli_epi16(both, 4), nibble));
    return W::words(_mm256_cvtepu8_epi16(_mm_and_si128(both, nibble)));
  }
};

template <>
struct WideForm<Q3_K> : WideTwoBits {
  static constexpr size_t kMins = 0;
  static TSUBU_INLINE void codes(const Q3_K::Block& b, __m512i* v) {
    low_bits(b.qs, v);
    const __m512i third = W::with_shifted<4>(b.hmask), mask = W::of(4);
    v[0] = W::merge(v[0], W::bits<2>(third, mask));
    v[1] = W::merge(v[1], W::bits<1>(third, mask));
    v[2] = W::merge(v[2], W::bits<0>(third, mask));
    v[3] = W::merge(v[3], W::bits<-1>(third, mask));
  }
  static TSUBU_INLINE __m512i scales(const Q3_K::Block& b, uint8_t*) {
    uint32_t a, l, h;
    __builtin_memcpy(&a, b.scales, 4);
    __builtin_memcpy(&l, b.scales + 4, 4);
    __builtin_memcpy(&h, b.scales + 8, 4);
    const uint32_t nibble = 0x0f0f0f0fu, two = 0x03030303u;
    const __m128i bytes = _mm_setr_epi32(static_cast<int>((a & nibble) | (h & two) << 4), static_cast<int>((l & nibble) | (h >> 2 & two) << 4),
                                         static_cast<int>((a >> 4 & nibble) | (h >> 4 & two) << 4),
                                         static_cast<int>((l >> 4 & nibble) | (h >> 6 & two) << 4));
    return W::words(_mm256_sub_epi16(_mm256_cvtepu8_epi16(bytes), _mm256_set1_epi16(32)));
  }
};

template <>
struct WideForm<Q6_K> {
  using W = WideBytes;
  static constexpr uint8_t kOrder[4][2] = {{0, 1}, {2, 3}, {4, 5}, {6, 7}};
  static constexpr size_t kMins = 0;
  static TSUBU_INLINE void codes(const Q6_K::Block& b, __m512i* v) {
    const __m512i low = W::of(15), high = W::of(48);
    for (int h = 0; h < 2; ++h) {
      const __m512i ql = W::load(b.ql + 64 * h), qh = W::with_shifted<2>(b.qh + 32 * h);
      v[2 * h] = W::merge(W::bits<0>(ql, low), W::bits<4>(qh, high));
      v[2 * h + 1] = W::merge(W::bits<-4>(ql, low), W::bits<0>(qh, high));
    }
  }
  static TSUBU_INLINE __m512i scales(const Q6_K::Block& b, uint8_t*) { return W::words(_mm256_cvtepi8_epi16(W::load16(b.scales))); }
};

// What a token's 256 columns are to sixteen rows of a type.
template <class C>
struct WideToken {
  using P = PackedForm<C>;
  using Form = WideForm<C>;
  // Codes less a bias are codes plus minus the bias times the column sums; halved where a word would not hold them.
  static constexpr bool kHalved = P::kBias * 16 * 127 > 32767;
  __m512i codes[4];
  __m512i bias;          // words, one for each sub-block of 16
  __m512i upper, lower;  // the column sums of minimums' sub-blocks: 64 upper + lower, bytes, repeated

  TSUBU_INLINE WideToken(const int8_t* x, const int32_t* of_16) {
    for (int j = 0; j < 4; ++j) codes[j] = Avx512Bytes::load_halves(x + 32 * Form::kOrder[j][0], x + 32 * Form::kOrder[j][1]);
    const __m512i sums = _mm512_loadu_si512(of_16);
    if constexpr (P::kBias != 0)
      bias = _mm512_zextsi256_si512(_mm512_cvtepi32_epi16(_mm512_mullo_epi32(sums, _mm512_set1_epi32(-(kHalved ? P::kBias / 2 : P::kBias)))));
    if constexpr (Form::kMins == 16) {
      upper = _mm512_broadcast_i32x4(_mm512_cvtepi32_epi8(_mm512_srai_epi32(sums, 6)));
      lower = _mm512_broadcast_i32x4(_mm512_cvtepi32_epi8(_mm512_and_si512(sums, _mm512_set1_epi32(63))));
    } else if constexpr (Form::kMins == 8) {
      const __m512i pairs = _mm512_add_epi32(sums, _mm512_shuffle_epi32(sums, _MM_PERM_CDAB));
      upper = _mm512_broadcastq_epi64(_mm512_cvtepi64_epi8(_mm512_srai_epi32(pairs, 6)));
      lower = _mm512_broadcastq_epi64(_mm512_cvtepi64_epi8(_mm512_and_si512(pairs, _mm512_set1_epi32(63))));
    }
  }
};

// Lane l of entry j: which scale the products 2l and 2l + 1 of code vector j have.
template <class C>
struct WideIndex {
  alignas(64) uint16_t v[4][32];
  constexpr WideIndex() : v{} {
    for (int j = 0; j < 4; ++j)
      for (int l = 0; l < 32; ++l)
        v[j][l] = static_cast<uint16_t>((32 * WideForm<C>::kOrder[j][l / 16] + 2 * (l % 16)) / PackedForm<C>::kSub);
  }
};
template <class C>
inline constexpr WideIndex<C> kWideIndex{};

// The integer sums of one row's block, to be added up over the lanes.
template <class C>
TSUBU_INLINE __m512i wide_sums(const typename C::Block& block, const WideToken<C>& x, const __m512i* index, uint8_t* mins) {
  __m512i v[4];
  WideForm<C>::codes(block, v);
  const __m512i scale = WideForm<C>::scales(block, mins);
  __m512i acc = _mm512_setzero_si512();
  if constexpr (PackedForm<C>::kBias != 0) {
    acc = _mm512_dpwssd_epi32(acc, scale, x.bias);
    if constexpr (WideToken<C>::kHalved) acc = _mm512_dpwssd_epi32(acc, scale, x.bias);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j)
    acc = _mm512_dpwssd_epi32(acc, _mm512_permutexvar_epi16(index[j], scale), _mm512_maddubs_epi16(v[j], x.codes[j]));
  return acc;
}

// Lane r: the sum of row r's minimums times the column sums. mins: sixteen rows of kMins bytes.
template <class C>
TSUBU_INLINE __m512i wide_min_sums(const uint8_t* mins, const WideToken<C>& x) {
  const auto sums = [&](int i) __attribute__((always_inline)) {
    const __m512i m = _mm512_loadu_si512(mins + 64 * i);
    return _mm512_dpbusd_epi32(_mm512_slli_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), m, x.upper), 6), m, x.lower);
  };
  if constexpr (WideForm<C>::kMins == 8) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i a = sums(0), b = sums(1);
    return _mm512_add_epi32(_mm512_permutex2var_epi32(a, even, b), _mm512_permutex2var_epi32(a, _mm512_add_epi32(even, _mm512_set1_epi32(1)), b));
  } else {
    const __m512i v[4] = {sums(0), sums(1), sums(2), sums(3)};
    // Lane 4q + i of the quarter sums is row 4i + q.
    const __m512i rows = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(rows, Avx512Bytes::quarter_sums(v));
  }
}

// f16 in the low and in the high halves of sixteen words of 32 bits.
TSUBU_INLINE __m512 low_halves(__m512i a) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a)); }
TSUBU_INLINE __m512 high_halves(__m512i a) { return low_halves(_mm512_srli_epi32(a, 16)); }

}  // namespace tsubu
