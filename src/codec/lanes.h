// The lane vocabulary: sixteen floats or sixteen 32-bit integers at a time. Algorithms (codec encode and decode, kernels)
// are written once over it as templates; this portable one is the meaning, kernel/lanes_*.h are the same operations in
// intrinsics. Every operation is one IEEE operation per lane (or an exact integer one) and reductions are one fixed tree,
// so an algorithm gives the same bits whichever vocabulary it is compiled with.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "base/half.h"

// Forced, so that units compiled for one instruction set leave no copy that another could call. Not under sanitizers, where
// a whole encoder in one function takes minutes to compile: run those builds where every instruction set runs.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TSUBU_INLINE inline __attribute__((noinline))
#else
#define TSUBU_INLINE inline __attribute__((always_inline))
#endif

// For templates over the lanes that are too large to be copied into each caller: their symbols carry the lanes' name.
#define TSUBU_OUTLINE __attribute__((noinline))

namespace tsubu {

inline constexpr int kLanes = 16, kDoubles = 8;

struct PortableLanes {
  struct F { float v[kLanes]; };
  struct I { int32_t v[kLanes]; };
  struct M { uint32_t v; };  // one bit a lane, lane 0 lowest

#define TSUBU_EACH for (int l = 0; l < kLanes; ++l)
  static TSUBU_INLINE F load(const float* p) { F r; TSUBU_EACH r.v[l] = p[l]; return r; }
  static TSUBU_INLINE void store(float* p, F a) { TSUBU_EACH p[l] = a.v[l]; }
  static TSUBU_INLINE F set1(float x) { F r; TSUBU_EACH r.v[l] = x; return r; }
  static TSUBU_INLINE F zero() { return set1(0.0f); }
  static TSUBU_INLINE F add(F a, F b) { TSUBU_EACH a.v[l] = a.v[l] + b.v[l]; return a; }
  static TSUBU_INLINE F sub(F a, F b) { TSUBU_EACH a.v[l] = a.v[l] - b.v[l]; return a; }
  static TSUBU_INLINE F mul(F a, F b) { TSUBU_EACH a.v[l] = a.v[l] * b.v[l]; return a; }
  static TSUBU_INLINE F div(F a, F b) { TSUBU_EACH a.v[l] = a.v[l] / b.v[l]; return a; }
  static TSUBU_INLINE F sqrt(F a) { TSUBU_EACH a.v[l] = std::sqrt(a.v[l]); return a; }
  static TSUBU_INLINE F fma(F a, F b, F c) { TSUBU_EACH a.v[l] = std::fma(a.v[l], b.v[l], c.v[l]); return a; }  // a·b + c
  // x86's rule: the second operand when either is NaN or both are zeros.
  static TSUBU_INLINE F min(F a, F b) { TSUBU_EACH a.v[l] = a.v[l] < b.v[l] ? a.v[l] : b.v[l]; return a; }
  static TSUBU_INLINE F max(F a, F b) { TSUBU_EACH a.v[l] = a.v[l] > b.v[l] ? a.v[l] : b.v[l]; return a; }
  static TSUBU_INLINE F abs(F a) { TSUBU_EACH a.v[l] = std::bit_cast<float>(std::bit_cast<uint32_t>(a.v[l]) & 0x7fffffffu); return a; }
  static TSUBU_INLINE F neg(F a) { TSUBU_EACH a.v[l] = std::bit_cast<float>(std::bit_cast<uint32_t>(a.v[l]) ^ 0x80000000u); return a; }
  // Nearest integer, ties to even. |a| must be below 2^22 (the classic magic-number rounding, exact there).
  static TSUBU_INLINE F round(F a) { TSUBU_EACH { volatile_add(a.v[l]); } return a; }
  static TSUBU_INLINE I to_int(F a) { I r; TSUBU_EACH r.v[l] = static_cast<int32_t>(a.v[l]); return r; }  // truncates; exact on rounded values
  static TSUBU_INLINE F to_float(I a) { F r; TSUBU_EACH r.v[l] = static_cast<float>(a.v[l]); return r; }
  static TSUBU_INLINE M lt(F a, F b) { M m{0}; TSUBU_EACH m.v |= static_cast<uint32_t>(a.v[l] < b.v[l]) << l; return m; }
  static TSUBU_INLINE M gt(F a, F b) { return lt(b, a); }
  static TSUBU_INLINE F select(M m, F a, F b) { TSUBU_EACH a.v[l] = (m.v >> l & 1) ? a.v[l] : b.v[l]; return a; }  // m ? a : b
  static TSUBU_INLINE I select(M m, I a, I b) { TSUBU_EACH a.v[l] = (m.v >> l & 1) ? a.v[l] : b.v[l]; return a; }
  // ((l and l+8), then l+4, l+2, l+1): the same tree in every vocabulary.
  static TSUBU_INLINE float hsum(F a) {
    for (int w = 8; w > 0; w /= 2) for (int l = 0; l < w; ++l) a.v[l] = a.v[l] + a.v[l + w];
    return a.v[0];
  }
  static TSUBU_INLINE float hmax(F a) { float r = a.v[0]; TSUBU_EACH r = a.v[l] > r ? a.v[l] : r; return r; }
  static TSUBU_INLINE float hmin(F a) { float r = a.v[0]; TSUBU_EACH r = a.v[l] < r ? a.v[l] : r; return r; }

  static TSUBU_INLINE I load_i(const int32_t* p) { I r; TSUBU_EACH r.v[l] = p[l]; return r; }
  static TSUBU_INLINE void store_i(int32_t* p, I a) { TSUBU_EACH p[l] = a.v[l]; }
  static TSUBU_INLINE I set1_i(int32_t x) { I r; TSUBU_EACH r.v[l] = x; return r; }
  static TSUBU_INLINE I add(I a, I b) { TSUBU_EACH a.v[l] = static_cast<int32_t>(static_cast<uint32_t>(a.v[l]) + static_cast<uint32_t>(b.v[l])); return a; }
  static TSUBU_INLINE I sub(I a, I b) { TSUBU_EACH a.v[l] = static_cast<int32_t>(static_cast<uint32_t>(a.v[l]) - static_cast<uint32_t>(b.v[l])); return a; }
  static TSUBU_INLINE I mul(I a, I b) { TSUBU_EACH a.v[l] = static_cast<int32_t>(static_cast<uint32_t>(a.v[l]) * static_cast<uint32_t>(b.v[l])); return a; }
  static TSUBU_INLINE I bit_and(I a, I b) { TSUBU_EACH a.v[l] &= b.v[l]; return a; }
  static TSUBU_INLINE I bit_or(I a, I b) { TSUBU_EACH a.v[l] |= b.v[l]; return a; }
  template <int n> static TSUBU_INLINE I shift_left(I a) { TSUBU_EACH a.v[l] = static_cast<int32_t>(static_cast<uint32_t>(a.v[l]) << n); return a; }
  template <int n> static TSUBU_INLINE I shift_right(I a) { TSUBU_EACH a.v[l] = static_cast<int32_t>(static_cast<uint32_t>(a.v[l]) >> n); return a; }
  static TSUBU_INLINE I shift_left(I a, int n) { TSUBU_EACH a.v[l] = static_cast<int32_t>(static_cast<uint32_t>(a.v[l]) << n); return a; }
  static TSUBU_INLINE I shift_right(I a, int n) { TSUBU_EACH a.v[l] = static_cast<int32_t>(static_cast<uint32_t>(a.v[l]) >> n); return a; }
  // Bit l of the result is lane l's, and back.
  static TSUBU_INLINE uint32_t mask_bits(M m) { return m.v; }
  static TSUBU_INLINE M mask_of(uint32_t low16) { return {low16 & 0xffffu}; }
  static TSUBU_INLINE I min(I a, I b) { TSUBU_EACH a.v[l] = a.v[l] < b.v[l] ? a.v[l] : b.v[l]; return a; }
  static TSUBU_INLINE I max(I a, I b) { TSUBU_EACH a.v[l] = a.v[l] > b.v[l] ? a.v[l] : b.v[l]; return a; }
  static TSUBU_INLINE I bits(F a) { I r; TSUBU_EACH r.v[l] = std::bit_cast<int32_t>(a.v[l]); return r; }
  static TSUBU_INLINE F from_bits(I a) { F r; TSUBU_EACH r.v[l] = std::bit_cast<float>(a.v[l]); return r; }

  // Sixteen bytes (or halves) widened to lanes; lanes narrowed to bytes (values must fit).
  static TSUBU_INLINE I load_u8(const uint8_t* p) { I r; TSUBU_EACH r.v[l] = p[l]; return r; }
  static TSUBU_INLINE I load_i8(const int8_t* p) { I r; TSUBU_EACH r.v[l] = p[l]; return r; }
  static TSUBU_INLINE void store_u8(uint8_t* p, I a) { TSUBU_EACH p[l] = static_cast<uint8_t>(a.v[l]); }
  static TSUBU_INLINE F load_f16(const uint16_t* p) { F r; TSUBU_EACH r.v[l] = f16_to_f32(p[l]); return r; }
  static TSUBU_INLINE F load_bf16(const uint16_t* p) { F r; TSUBU_EACH r.v[l] = bf16_to_f32(p[l]); return r; }
  static TSUBU_INLINE void store_f16(uint16_t* p, F a) { TSUBU_EACH p[l] = f32_to_f16(a.v[l]); }  // nearest, ties to even
  // table[i & 15] per lane.
  static TSUBU_INLINE F lookup16(const float* table, I i) { F r; TSUBU_EACH r.v[l] = table[i.v[l] & 15]; return r; }

  // Sixteen pairs of bfloat16 numbers, the first of each in the low half of 32 bits, and acc + their products: fma of the
  // second ones, then of the first. An instruction set may round the sum of a pair otherwise and take subnormals for zero.
  using P = I;
  static TSUBU_INLINE P load_pairs(const uint32_t* p) { I r; TSUBU_EACH r.v[l] = static_cast<int32_t>(p[l]); return r; }
  static TSUBU_INLINE P set1_pair(uint32_t x) { return set1_i(static_cast<int32_t>(x)); }
  static TSUBU_INLINE F add_pairs(F acc, P a, P b) {
    acc = fma(from_bits(bit_and(a, set1_i(~0xffff))), from_bits(bit_and(b, set1_i(~0xffff))), acc);
    return fma(from_bits(shift_left<16>(a)), from_bits(shift_left<16>(b)), acc);
  }
  // Sixteen rows of sixteen words; leading dimensions in words.
  static TSUBU_INLINE void transpose(const uint32_t* in, size_t ld_in, uint32_t* out, size_t ld_out) {
    for (size_t i = 0; i < kLanes; ++i) for (size_t j = 0; j < kLanes; ++j) out[j * ld_out + i] = in[i * ld_in + j];
  }
  static TSUBU_INLINE void transpose(const float* in, size_t ld_in, float* out, size_t ld_out) {
    for (size_t i = 0; i < kLanes; ++i) for (size_t j = 0; j < kLanes; ++j) out[j * ld_out + i] = in[i * ld_in + j];
  }

  // Eight doubles.
  struct D { double v[kDoubles]; };
  static TSUBU_INLINE D load(const double* p) { D r; for (int l = 0; l < kDoubles; ++l) r.v[l] = p[l]; return r; }
  static TSUBU_INLINE void store(double* p, D a) { for (int l = 0; l < kDoubles; ++l) p[l] = a.v[l]; }
  static TSUBU_INLINE D set1(double x) { D r; for (int l = 0; l < kDoubles; ++l) r.v[l] = x; return r; }
  static TSUBU_INLINE D fma(D a, D b, D c) { for (int l = 0; l < kDoubles; ++l) a.v[l] = std::fma(a.v[l], b.v[l], c.v[l]); return a; }

  // kBytes signed bytes, and acc + their products summed in some way into the lanes: only the sum over all lanes is
  // meant. An instruction set may want left operands biased: load_left adds kLeftBias to each.
  struct B { int8_t v[kLanes]; };
  static constexpr int kBytes = kLanes, kLeftBias = 0;
  static TSUBU_INLINE B load_bytes(const int8_t* p) { B r; TSUBU_EACH r.v[l] = p[l]; return r; }
  static TSUBU_INLINE B load_left(const int8_t* p) { return load_bytes(p); }
  static TSUBU_INLINE I add_products(I acc, B left, B right) { TSUBU_EACH acc.v[l] += left.v[l] * right.v[l]; return acc; }
#undef TSUBU_EACH

 private:
  static TSUBU_INLINE void volatile_add(float& x) {
    // 1.5·2^23 forces the ulp to 1; the compiler may not simplify it because float addition is not associative.
    const float shifted = x + 12582912.0f;
    x = shifted - 12582912.0f;
  }
};

}  // namespace tsubu
