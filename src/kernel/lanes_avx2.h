// The lane vocabulary (codec/lanes.h) in AVX2 + FMA + F16C: two registers a value.
#pragma once

#include <immintrin.h>

#include "codec/lanes.h"

namespace tsubu {

struct Avx2Lanes {
  struct F { __m256 a, b; };
  struct I { __m256i a, b; };
  struct M { __m256 a, b; };  // all ones or all zeros a lane
#define TSUBU_F2(name, op) static TSUBU_INLINE F name(F x, F y) { return {op(x.a, y.a), op(x.b, y.b)}; }
#define TSUBU_I2(name, op) static TSUBU_INLINE I name(I x, I y) { return {op(x.a, y.a), op(x.b, y.b)}; }
  static TSUBU_INLINE F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static TSUBU_INLINE void store(float* p, F x) { _mm256_storeu_ps(p, x.a); _mm256_storeu_ps(p + 8, x.b); }
  static TSUBU_INLINE F set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static TSUBU_INLINE F zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  TSUBU_F2(add, _mm256_add_ps)
  TSUBU_F2(sub, _mm256_sub_ps)
  TSUBU_F2(mul, _mm256_mul_ps)
  TSUBU_F2(div, _mm256_div_ps)
  TSUBU_F2(min, _mm256_min_ps)
  TSUBU_F2(max, _mm256_max_ps)
  static TSUBU_INLINE F sqrt(F x) { return {_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)}; }
  using P = I;
  static TSUBU_INLINE P load_pairs(const uint32_t* p) { return load_i(reinterpret_cast<const int32_t*>(p)); }
  static TSUBU_INLINE P set1_pair(uint32_t x) { return set1_i(static_cast<int32_t>(x)); }
  static TSUBU_INLINE F add_pairs(F acc, P x, P y) {
    acc = fma(from_bits(bit_and(x, set1_i(~0xffff))), from_bits(bit_and(y, set1_i(~0xffff))), acc);
    return fma(from_bits(shift_left<16>(x)), from_bits(shift_left<16>(y)), acc);
  }
  static TSUBU_INLINE void transpose(const uint32_t* in, size_t ld_in, uint32_t* out, size_t ld_out) {
    for (size_t i = 0; i < kLanes; ++i) for (size_t j = 0; j < kLanes; ++j) out[j * ld_out + i] = in[i * ld_in + j];
  }
  static TSUBU_INLINE void transpose(const float* in, size_t ld_in, float* out, size_t ld_out) {
    for (size_t i = 0; i < kLanes; ++i) for (size_t j = 0; j < kLanes; ++j) out[j * ld_out + i] = in[i * ld_in + j];
  }
  struct D { __m256d a, b; };
  static TSUBU_INLINE D load(const double* p) { return {_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)}; }
  static TSUBU_INLINE void store(double* p, D x) { _mm256_storeu_pd(p, x.a); _mm256_storeu_pd(p + 4, x.b); }
  static TSUBU_INLINE D set1(double x) { return {_mm256_set1_pd(x), _mm256_set1_pd(x)}; }
  static TSUBU_INLINE D fma(D x, D y, D z) { return {_mm256_fmadd_pd(x.a, y.a, z.a), _mm256_fmadd_pd(x.b, y.b, z.b)}; }
  static TSUBU_INLINE F fma(F x, F y, F z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
  static TSUBU_INLINE F abs(F x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
  }
  static TSUBU_INLINE F neg(F x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_xor_ps(sign, x.a), _mm256_xor_ps(sign, x.b)};
  }
  static TSUBU_INLINE F round(F x) {
    const F magic = set1(12582912.0f);
    return sub(add(x, magic), magic);
  }
  static TSUBU_INLINE I to_int(F x) { return {_mm256_cvttps_epi32(x.a), _mm256_cvttps_epi32(x.b)}; }
  static TSUBU_INLINE F to_float(I x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
  static TSUBU_INLINE M lt(F x, F y) { return {_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)}; }
  static TSUBU_INLINE M gt(F x, F y) { return lt(y, x); }
  static TSUBU_INLINE F select(M m, F x, F y) { return {_mm256_blendv_ps(y.a, x.a, m.a), _mm256_blendv_ps(y.b, x.b, m.b)}; }
  static TSUBU_INLINE I select(M m, I x, I y) { return bits(select(m, from_bits(x), from_bits(y))); }
  static TSUBU_INLINE float hsum(F x) {
    const __m256 b = _mm256_add_ps(x.a, x.b);
    const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
  }
  // out[0..4) = hsum of each, by the same tree.
  static TSUBU_INLINE void hsum4(float* out, F a, F b, F c, F d) {
    const __m256 ab = fold_quads(_mm256_add_ps(a.a, a.b), _mm256_add_ps(b.a, b.b));  // lanes l, l + 8
    const __m256 cd = fold_quads(_mm256_add_ps(c.a, c.b), _mm256_add_ps(d.a, d.b));
    const __m256 pairs = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));  // l, l + 2
    const __m256 sums =
        _mm256_add_ps(_mm256_shuffle_ps(pairs, pairs, 0x88), _mm256_shuffle_ps(pairs, pairs, 0xdd));  // l, l + 1
    _mm_storeu_ps(out, _mm_unpacklo_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1)));
  }
  static TSUBU_INLINE float hmax(F x) {
    const __m256 b = _mm256_max_ps(x.a, x.b);
    const __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    const __m128 d = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d)));
  }
  static TSUBU_INLINE float hmin(F x) {
    const __m256 b = _mm256_min_ps(x.a, x.b);
    const __m128 c = _mm_min_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    const __m128 d = _mm_min_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_min_ss(d, _mm_movehdup_ps(d)));
  }

  static TSUBU_INLINE I load_i(const int32_t* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8))};
  }
  static TSUBU_INLINE void store_i(int32_t* p, I x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.a);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), x.b);
  }
  static TSUBU_INLINE I set1_i(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
  TSUBU_I2(add, _mm256_add_epi32)
  TSUBU_I2(sub, _mm256_sub_epi32)
  TSUBU_I2(mul, _mm256_mullo_epi32)
  TSUBU_I2(bit_and, _mm256_and_si256)
  TSUBU_I2(bit_or, _mm256_or_si256)
  TSUBU_I2(min, _mm256_min_epi32)
  TSUBU_I2(max, _mm256_max_epi32)
  template <int n> static TSUBU_INLINE I shift_left(I x) { return {_mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n)}; }
  template <int n> static TSUBU_INLINE I shift_right(I x) { return {_mm256_srli_epi32(x.a, n), _mm256_srli_epi32(x.b, n)}; }
  static TSUBU_INLINE I shift_left(I x, int n) {
    const __m128i count = _mm_cvtsi32_si128(n);
    return {_mm256_sll_epi32(x.a, count), _mm256_sll_epi32(x.b, count)};
  }
  static TSUBU_INLINE I shift_right(I x, int n) {
    const __m128i count = _mm_cvtsi32_si128(n);
    return {_mm256_srl_epi32(x.a, count), _mm256_srl_epi32(x.b, count)};
  }
  static TSUBU_INLINE uint32_t mask_bits(M m) {
    return static_cast<uint32_t>(_mm256_movemask_ps(m.a)) | static_cast<uint32_t>(_mm256_movemask_ps(m.b)) << 8;
  }
  static TSUBU_INLINE M mask_of(uint32_t low16) {
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i low = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(low16)), bit);
    const __m256i high = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(low16 >> 8)), bit);
    return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(low, bit)), _mm256_castsi256_ps(_mm256_cmpeq_epi32(high, bit))};
  }
  static TSUBU_INLINE I bits(F x) { return {_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
  static TSUBU_INLINE F from_bits(I x) { return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }

  static TSUBU_INLINE I load_u8(const uint8_t* p) {
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtepu8_epi32(b), _mm256_cvtepu8_epi32(_mm_srli_si128(b, 8))};
  }
  static TSUBU_INLINE I load_i8(const int8_t* p) {
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtepi8_epi32(b), _mm256_cvtepi8_epi32(_mm_srli_si128(b, 8))};
  }
  static TSUBU_INLINE void store_u8(uint8_t* p, I x) {
    const __m256i low_byte = _mm256_set1_epi32(0xff);
    const __m256i w = _mm256_packus_epi32(_mm256_and_si256(x.a, low_byte), _mm256_and_si256(x.b, low_byte));
    const __m256i in_order = _mm256_permute4x64_epi64(w, 0xd8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packus_epi16(_mm256_castsi256_si128(in_order), _mm256_extracti128_si256(in_order, 1)));
  }
  static TSUBU_INLINE F load_f16(const uint16_t* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
            _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
  }
  static TSUBU_INLINE F load_bf16(const uint16_t* p) {
    const I wide = {_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
                    _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
    return from_bits(shift_left<16>(wide));
  }
  static TSUBU_INLINE void store_f16(uint16_t* p, F x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static TSUBU_INLINE F lookup16(const float* table, I i) { return {lookup8x2(table, i.a), lookup8x2(table, i.b)}; }

  // Bytes widened to 16 bits: the pairs of products that madd adds fit into 32 bits, nothing saturates.
  struct B { __m256i a, b; };
  static constexpr int kBytes = 32, kLeftBias = 0;
  static TSUBU_INLINE B load_bytes(const int8_t* p) {
    return {_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
            _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16)))};
  }
  static TSUBU_INLINE B load_left(const int8_t* p) { return load_bytes(p); }
  static TSUBU_INLINE I add_products(I acc, B left, B right) {
    return {_mm256_add_epi32(acc.a, _mm256_madd_epi16(left.a, right.a)),
            _mm256_add_epi32(acc.b, _mm256_madd_epi16(left.b, right.b))};
  }
  // out[0..4) = sum of the lanes of each.
  static TSUBU_INLINE void hsum4_i(int32_t* out, I a, I b, I c, I d) {
    const __m256i ab = _mm256_hadd_epi32(_mm256_add_epi32(a.a, a.b), _mm256_add_epi32(b.a, b.b));
    const __m256i cd = _mm256_hadd_epi32(_mm256_add_epi32(c.a, c.b), _mm256_add_epi32(d.a, d.b));
    const __m256i sums = _mm256_hadd_epi32(ab, cd);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out),
                     _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1)));
  }

 private:
  // Lanes l and l + 4 of a in the lower half, those of b in the upper one.
  static TSUBU_INLINE __m256 fold_quads(__m256 a, __m256 b) {
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  }
  static TSUBU_INLINE __m256 lookup8x2(const float* table, __m256i i) {
    const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), i);
    const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), i);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(i, 28)));
  }
#undef TSUBU_F2
#undef TSUBU_I2
};

}  // namespace tsubu
