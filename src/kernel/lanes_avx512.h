// The lane vocabulary (codec/lanes.h) in AVX-512: one register a value.
#pragma once

#include <immintrin.h>

#include "codec/lanes.h"

namespace tsubu {

struct Avx512Lanes {
  using F = __m512;
  using I = __m512i;
  using M = __mmask16;
  static TSUBU_INLINE F load(const float* p) { return _mm512_loadu_ps(p); }
  static TSUBU_INLINE void store(float* p, F a) { _mm512_storeu_ps(p, a); }
  static TSUBU_INLINE F set1(float x) { return _mm512_set1_ps(x); }
  static TSUBU_INLINE F zero() { return _mm512_setzero_ps(); }
  static TSUBU_INLINE F add(F a, F b) { return _mm512_add_ps(a, b); }
  static TSUBU_INLINE F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static TSUBU_INLINE F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static TSUBU_INLINE F div(F a, F b) { return _mm512_div_ps(a, b); }
  static TSUBU_INLINE F sqrt(F a) { return _mm512_sqrt_ps(a); }
  using P = __m512i;
  static TSUBU_INLINE P load_pairs(const uint32_t* p) { return _mm512_loadu_si512(p); }
  static TSUBU_INLINE P set1_pair(uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
  static TSUBU_INLINE F add_pairs(F acc, P a, P b) { return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b); }
  // Words of pairs of rows, then pairs of those, then 128-bit quarters.
  static TSUBU_INLINE void transpose(const uint32_t* in, size_t ld_in, uint32_t* out, size_t ld_out) {
    __m512i r[16], t[16];
#pragma GCC unroll 16
    for (size_t i = 0; i < 16; ++i) r[i] = _mm512_loadu_si512(in + i * ld_in);
#pragma GCC unroll 8
    for (size_t i = 0; i < 16; i += 2) {
      t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
      t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < 16; i += 4) {
      r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
      r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
      r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
      r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    // r[4 g + c]: rows 4 g … 4 g + 3 of columns c, c + 4, c + 8, c + 12, a quarter each.
#pragma GCC unroll 4
    for (size_t c = 0; c < 4; ++c) {
      const __m512i low01 = _mm512_shuffle_i32x4(r[c], r[4 + c], 0x44), high01 = _mm512_shuffle_i32x4(r[c], r[4 + c], 0xee);
      const __m512i low23 = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0x44);
      const __m512i high23 = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0xee);
      _mm512_storeu_si512(out + c * ld_out, _mm512_shuffle_i32x4(low01, low23, 0x88));
      _mm512_storeu_si512(out + (4 + c) * ld_out, _mm512_shuffle_i32x4(low01, low23, 0xdd));
      _mm512_storeu_si512(out + (8 + c) * ld_out, _mm512_shuffle_i32x4(high01, high23, 0x88));
      _mm512_storeu_si512(out + (12 + c) * ld_out, _mm512_shuffle_i32x4(high01, high23, 0xdd));
    }
  }
  static TSUBU_INLINE void transpose(const float* in, size_t ld_in, float* out, size_t ld_out) {  // loads and stores may alias
    transpose(reinterpret_cast<const uint32_t*>(in), ld_in, reinterpret_cast<uint32_t*>(out), ld_out);
  }
  using D = __m512d;
  static TSUBU_INLINE D load(const double* p) { return _mm512_loadu_pd(p); }
  static TSUBU_INLINE void store(double* p, D a) { _mm512_storeu_pd(p, a); }
  static TSUBU_INLINE D set1(double x) { return _mm512_set1_pd(x); }
  static TSUBU_INLINE D fma(D a, D b, D c) { return _mm512_fmadd_pd(a, b, c); }
  static TSUBU_INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static TSUBU_INLINE F min(F a, F b) { return _mm512_min_ps(a, b); }
  static TSUBU_INLINE F max(F a, F b) { return _mm512_max_ps(a, b); }
  static TSUBU_INLINE F abs(F a) { return _mm512_abs_ps(a); }
  static TSUBU_INLINE F neg(F a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
  static TSUBU_INLINE F round(F a) {
    const F magic = _mm512_set1_ps(12582912.0f);
    return _mm512_sub_ps(_mm512_add_ps(a, magic), magic);
  }
  static TSUBU_INLINE I to_int(F a) { return _mm512_cvttps_epi32(a); }
  static TSUBU_INLINE F to_float(I a) { return _mm512_cvtepi32_ps(a); }
  static TSUBU_INLINE M lt(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
  static TSUBU_INLINE M gt(F a, F b) { return _mm512_cmp_ps_mask(b, a, _CMP_LT_OQ); }
  static TSUBU_INLINE F select(M m, F a, F b) { return _mm512_mask_blend_ps(m, b, a); }
  static TSUBU_INLINE I select(M m, I a, I b) { return _mm512_mask_blend_epi32(m, b, a); }
  static TSUBU_INLINE float hsum(F a) {
    const __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
  }
  // out[0..4) = hsum of each, by the same tree.
  static TSUBU_INLINE void hsum4(float* out, F a, F b, F c, F d) {
    const F ab = add(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));  // lanes l, l + 8
    const F cd = add(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    const F quads = add(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));  // l, l + 4
    const F pairs = add(quads, _mm512_shuffle_ps(quads, quads, 0x4e));                            // l, l + 2
    const F sums = add(pairs, _mm512_shuffle_ps(pairs, pairs, 0xb1));                             // l, l + 1
    _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_permutexvar_ps(_mm512_setr4_epi32(0, 4, 8, 12), sums)));
  }
  static TSUBU_INLINE float hmax(F a) { return _mm512_reduce_max_ps(a); }
  static TSUBU_INLINE float hmin(F a) { return _mm512_reduce_min_ps(a); }

  static TSUBU_INLINE I load_i(const int32_t* p) { return _mm512_loadu_si512(p); }
  static TSUBU_INLINE void store_i(int32_t* p, I a) { _mm512_storeu_si512(p, a); }
  static TSUBU_INLINE I set1_i(int32_t x) { return _mm512_set1_epi32(x); }
  static TSUBU_INLINE I add(I a, I b) { return _mm512_add_epi32(a, b); }
  static TSUBU_INLINE I sub(I a, I b) { return _mm512_sub_epi32(a, b); }
  static TSUBU_INLINE I mul(I a, I b) { return _mm512_mullo_epi32(a, b); }
  static TSUBU_INLINE I bit_and(I a, I b) { return _mm512_and_si512(a, b); }
  static TSUBU_INLINE I bit_or(I a, I b) { return _mm512_or_si512(a, b); }
  template <int n> static TSUBU_INLINE I shift_left(I a) { return _mm512_slli_epi32(a, n); }
  template <int n> static TSUBU_INLINE I shift_right(I a) { return _mm512_srli_epi32(a, n); }
  static TSUBU_INLINE I shift_left(I a, int n) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128(n)); }
  static TSUBU_INLINE I shift_right(I a, int n) { return _mm512_srl_epi32(a, _mm_cvtsi32_si128(n)); }
  static TSUBU_INLINE uint32_t mask_bits(M m) { return m; }
  static TSUBU_INLINE M mask_of(uint32_t low16) { return static_cast<M>(low16); }
  static TSUBU_INLINE I min(I a, I b) { return _mm512_min_epi32(a, b); }
  static TSUBU_INLINE I max(I a, I b) { return _mm512_max_epi32(a, b); }
  static TSUBU_INLINE I bits(F a) { return _mm512_castps_si512(a); }
  static TSUBU_INLINE F from_bits(I a) { return _mm512_castsi512_ps(a); }

  static TSUBU_INLINE I load_u8(const uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static TSUBU_INLINE I load_i8(const int8_t* p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static TSUBU_INLINE void store_u8(uint8_t* p, I a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a));
  }
  static TSUBU_INLINE F load_f16(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static TSUBU_INLINE F load_bf16(const uint16_t* p) {
    return from_bits(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
  }
  static TSUBU_INLINE void store_f16(uint16_t* p, F a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static TSUBU_INLINE F lookup16(const float* table, I i) { return _mm512_permutexvar_ps(i, _mm512_loadu_ps(table)); }

  // vpdpbusd multiplies unsigned by signed bytes: left operands are biased by 128. It wraps and does not saturate, so the
  // sums are exact modulo 2^32.
  using B = __m512i;
  static constexpr int kBytes = 64, kLeftBias = 128;
  static TSUBU_INLINE B load_bytes(const int8_t* p) { return _mm512_loadu_si512(p); }
  static TSUBU_INLINE B load_left(const int8_t* p) {
    return _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi8(static_cast<char>(0x80)));
  }
  static TSUBU_INLINE I add_products(I acc, B left, B right) { return _mm512_dpbusd_epi32(acc, left, right); }
  // out[0..4) = sum of the lanes of each.
  static TSUBU_INLINE void hsum4_i(int32_t* out, I a, I b, I c, I d) {
    const I ab = add(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const I cd = add(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    const I abcd = add(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));  // a sum each in every quarter
    const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(abcd), _mm512_extracti64x4_epi64(abcd, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out),
                     _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
  }
};

}  // namespace tsubu
