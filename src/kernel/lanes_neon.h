// The lane vocabulary (codec/lanes.h) in NEON (AArch64): four registers a value.
#pragma once

#include <arm_neon.h>

#include "codec/lanes.h"

namespace tsubu {

struct NeonLanes {
  struct F { float32x4_t v[4]; };
  struct I { int32x4_t v[4]; };
  struct M { uint32x4_t v[4]; };  // all ones or all zeros a lane
#define TSUBU_EACH for (int q = 0; q < 4; ++q)
#define TSUBU_F2(name, op) static TSUBU_INLINE F name(F x, F y) { TSUBU_EACH x.v[q] = op(x.v[q], y.v[q]); return x; }
#define TSUBU_I2(name, op) static TSUBU_INLINE I name(I x, I y) { TSUBU_EACH x.v[q] = op(x.v[q], y.v[q]); return x; }
  static TSUBU_INLINE F load(const float* p) { F r; TSUBU_EACH r.v[q] = vld1q_f32(p + 4 * q); return r; }
  static TSUBU_INLINE void store(float* p, F x) { TSUBU_EACH vst1q_f32(p + 4 * q, x.v[q]); }
  static TSUBU_INLINE F set1(float x) { F r; TSUBU_EACH r.v[q] = vdupq_n_f32(x); return r; }
  static TSUBU_INLINE F zero() { return set1(0.0f); }
  TSUBU_F2(add, vaddq_f32)
  TSUBU_F2(sub, vsubq_f32)
  TSUBU_F2(mul, vmulq_f32)
  TSUBU_F2(div, vdivq_f32)
  // vminq_f32 treats NaN and zeros of different sign in its own way; the vocabulary's rule is a comparison.
  TSUBU_F2(min, lesser)
  TSUBU_F2(max, greater)
  static TSUBU_INLINE F sqrt(F x) { TSUBU_EACH x.v[q] = vsqrtq_f32(x.v[q]); return x; }
  using P = I;
  static TSUBU_INLINE P load_pairs(const uint32_t* p) { return load_i(reinterpret_cast<const int32_t*>(p)); }
  static TSUBU_INLINE P set1_pair(uint32_t x) { return set1_i(static_cast<int32_t>(x)); }
  static TSUBU_INLINE F add_pairs(F acc, P x, P y) {
    acc = fma(from_bits(bit_and(x, set1_i(~0xffff))), from_bits(bit_and(y, set1_i(~0xffff))), acc);
    return fma(from_bits(shift_left<16>(x)), from_bits(shift_left<16>(y)), acc);
  }
  template <class Word>
  static TSUBU_INLINE void transpose(const Word* in, size_t ld_in, Word* out, size_t ld_out) {
    for (size_t i = 0; i < kLanes; ++i) for (size_t j = 0; j < kLanes; ++j) out[j * ld_out + i] = in[i * ld_in + j];
  }
  struct D { float64x2_t v[4]; };
  static TSUBU_INLINE D load(const double* p) { D r; TSUBU_EACH r.v[q] = vld1q_f64(p + 2 * q); return r; }
  static TSUBU_INLINE void store(double* p, D x) { TSUBU_EACH vst1q_f64(p + 2 * q, x.v[q]); }
  static TSUBU_INLINE D set1(double x) { D r; TSUBU_EACH r.v[q] = vdupq_n_f64(x); return r; }
  static TSUBU_INLINE D fma(D x, D y, D z) { TSUBU_EACH z.v[q] = vfmaq_f64(z.v[q], x.v[q], y.v[q]); return z; }
  static TSUBU_INLINE F fma(F x, F y, F z) { TSUBU_EACH z.v[q] = vfmaq_f32(z.v[q], x.v[q], y.v[q]); return z; }
  static TSUBU_INLINE F abs(F x) { TSUBU_EACH x.v[q] = vabsq_f32(x.v[q]); return x; }
  static TSUBU_INLINE F neg(F x) { TSUBU_EACH x.v[q] = vnegq_f32(x.v[q]); return x; }
  static TSUBU_INLINE F round(F x) {
    const F magic = set1(12582912.0f);
    return sub(add(x, magic), magic);
  }
  static TSUBU_INLINE I to_int(F x) { I r; TSUBU_EACH r.v[q] = vcvtq_s32_f32(x.v[q]); return r; }
  static TSUBU_INLINE F to_float(I x) { F r; TSUBU_EACH r.v[q] = vcvtq_f32_s32(x.v[q]); return r; }
  static TSUBU_INLINE M lt(F x, F y) { M r; TSUBU_EACH r.v[q] = vcltq_f32(x.v[q], y.v[q]); return r; }
  static TSUBU_INLINE M gt(F x, F y) { return lt(y, x); }
  static TSUBU_INLINE F select(M m, F x, F y) { TSUBU_EACH x.v[q] = vbslq_f32(m.v[q], x.v[q], y.v[q]); return x; }
  static TSUBU_INLINE I select(M m, I x, I y) { TSUBU_EACH x.v[q] = vbslq_s32(m.v[q], x.v[q], y.v[q]); return x; }
  static TSUBU_INLINE float hsum(F x) {
    const float32x4_t quad = vaddq_f32(vaddq_f32(x.v[0], x.v[2]), vaddq_f32(x.v[1], x.v[3]));  // l + 8, then l + 4
    const float32x2_t pair = vadd_f32(vget_low_f32(quad), vget_high_f32(quad));
    return vget_lane_f32(pair, 0) + vget_lane_f32(pair, 1);
  }
  static TSUBU_INLINE float hmax(F x) {
    const float32x4_t quad = greater(greater(x.v[0], x.v[2]), greater(x.v[1], x.v[3]));
    return vmaxvq_f32(quad);
  }
  static TSUBU_INLINE float hmin(F x) {
    const float32x4_t quad = lesser(lesser(x.v[0], x.v[2]), lesser(x.v[1], x.v[3]));
    return vminvq_f32(quad);
  }

  static TSUBU_INLINE I load_i(const int32_t* p) { I r; TSUBU_EACH r.v[q] = vld1q_s32(p + 4 * q); return r; }
  static TSUBU_INLINE void store_i(int32_t* p, I x) { TSUBU_EACH vst1q_s32(p + 4 * q, x.v[q]); }
  static TSUBU_INLINE I set1_i(int32_t x) { I r; TSUBU_EACH r.v[q] = vdupq_n_s32(x); return r; }
  TSUBU_I2(add, vaddq_s32)
  TSUBU_I2(sub, vsubq_s32)
  TSUBU_I2(mul, vmulq_s32)
  TSUBU_I2(bit_and, vandq_s32)
  TSUBU_I2(bit_or, vorrq_s32)
  TSUBU_I2(min, vminq_s32)
  TSUBU_I2(max, vmaxq_s32)
  template <int n> static TSUBU_INLINE I shift_left(I x) { TSUBU_EACH x.v[q] = vshlq_n_s32(x.v[q], n); return x; }
  // Logical. vshrq_n takes 1 … 32.
  template <int n> static TSUBU_INLINE I shift_right(I x) {
    if constexpr (n > 0) TSUBU_EACH x.v[q] = vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(x.v[q]), n));
    return x;
  }
  static TSUBU_INLINE I shift_left(I x, int n) { TSUBU_EACH x.v[q] = vshlq_s32(x.v[q], vdupq_n_s32(n)); return x; }
  static TSUBU_INLINE I shift_right(I x, int n) {
    TSUBU_EACH x.v[q] = vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(x.v[q]), vdupq_n_s32(-n)));
    return x;
  }
  static TSUBU_INLINE uint32_t mask_bits(M m) {
    uint32_t r = 0;
    TSUBU_EACH r |= vaddvq_u32(vandq_u32(m.v[q], lane_bits())) << (4 * q);
    return r;
  }
  static TSUBU_INLINE M mask_of(uint32_t low16) {
    M r;
    TSUBU_EACH r.v[q] = vtstq_u32(vdupq_n_u32(low16 >> (4 * q)), lane_bits());
    return r;
  }
  static TSUBU_INLINE I bits(F x) { I r; TSUBU_EACH r.v[q] = vreinterpretq_s32_f32(x.v[q]); return r; }
  static TSUBU_INLINE F from_bits(I x) { F r; TSUBU_EACH r.v[q] = vreinterpretq_f32_s32(x.v[q]); return r; }

  static TSUBU_INLINE I load_u8(const uint8_t* p) {
    const uint8x16_t b = vld1q_u8(p);
    const uint16x8_t low = vmovl_u8(vget_low_u8(b)), high = vmovl_u8(vget_high_u8(b));
    return {{vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))), vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(low))),
             vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))), vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(high)))}};
  }
  static TSUBU_INLINE I load_i8(const int8_t* p) {
    const int8x16_t b = vld1q_s8(p);
    const int16x8_t low = vmovl_s8(vget_low_s8(b)), high = vmovl_s8(vget_high_s8(b));
    return {{vmovl_s16(vget_low_s16(low)), vmovl_s16(vget_high_s16(low)), vmovl_s16(vget_low_s16(high)),
             vmovl_s16(vget_high_s16(high))}};
  }
  static TSUBU_INLINE void store_u8(uint8_t* p, I x) {
    const int16x8_t low = vcombine_s16(vmovn_s32(x.v[0]), vmovn_s32(x.v[1]));
    const int16x8_t high = vcombine_s16(vmovn_s32(x.v[2]), vmovn_s32(x.v[3]));
    vst1q_u8(p, vreinterpretq_u8_s8(vcombine_s8(vmovn_s16(low), vmovn_s16(high))));
  }
  static TSUBU_INLINE F load_f16(const uint16_t* p) {
    F r;
    TSUBU_EACH r.v[q] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * q)));
    return r;
  }
  static TSUBU_INLINE F load_bf16(const uint16_t* p) {
    F r;
    TSUBU_EACH r.v[q] = vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * q), 16));
    return r;
  }
  static TSUBU_INLINE void store_f16(uint16_t* p, F x) {
    TSUBU_EACH vst1_u16(p + 4 * q, vreinterpret_u16_f16(vcvt_f16_f32(x.v[q])));
  }
  // A float is four bytes: byte 4i + 0 … 3 of the table.
  static TSUBU_INLINE F lookup16(const float* table, I i) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(table);
    const uint8x16x4_t all = {{vld1q_u8(bytes), vld1q_u8(bytes + 16), vld1q_u8(bytes + 32), vld1q_u8(bytes + 48)}};
    F r;
    TSUBU_EACH {
      const int32x4_t index = vandq_s32(i.v[q], vdupq_n_s32(15));
      const int32x4_t at = vaddq_s32(vmulq_s32(index, vdupq_n_s32(0x04040404)), vdupq_n_s32(0x03020100));
      r.v[q] = vreinterpretq_f32_u8(vqtbl4q_u8(all, vreinterpretq_u8_s32(at)));
    }
    return r;
  }

  struct B { int8x16_t v; };
  static constexpr int kBytes = 16, kLeftBias = 0;
  static TSUBU_INLINE B load_bytes(const int8_t* p) { return {vld1q_s8(p)}; }
  static TSUBU_INLINE B load_left(const int8_t* p) { return load_bytes(p); }
  static TSUBU_INLINE I add_products(I acc, B left, B right) {
    acc.v[0] = vpadalq_s16(acc.v[0], vmull_s8(vget_low_s8(left.v), vget_low_s8(right.v)));
    acc.v[1] = vpadalq_s16(acc.v[1], vmull_s8(vget_high_s8(left.v), vget_high_s8(right.v)));
    return acc;
  }

 private:
  static TSUBU_INLINE uint32x4_t lane_bits() { return uint32x4_t{1, 2, 4, 8}; }
  static TSUBU_INLINE float32x4_t lesser(float32x4_t x, float32x4_t y) { return vbslq_f32(vcltq_f32(x, y), x, y); }
  static TSUBU_INLINE float32x4_t greater(float32x4_t x, float32x4_t y) { return vbslq_f32(vcgtq_f32(x, y), x, y); }
#undef TSUBU_EACH
#undef TSUBU_F2
#undef TSUBU_I2
};

}  // namespace tsubu
