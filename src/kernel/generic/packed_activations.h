// Activations rounded to 8 bits as packed products take them, in llama.cpp's two ways: blocks of 32 with the scale of Q8_0, blocks of
// 256 with that of Q8_K. Included by units of generic/ only.
#pragma once

#include "kernel/byte_lanes.h"

namespace tsubu::TSUBU_ISA {
namespace {

using L = Bytes::L;
using F = L::F;
using I = L::I;

template <size_t block>
TSUBU_INLINE void encode_block(const float* x, int8_t* codes, int32_t* sums, float to_code) {
  const F scale = L::set1(to_code);
  for (size_t i = 0; i < block; i += kLanes) {
    const F code = L::min(L::round(L::mul(L::load(x + i), scale)), L::set1(127.0f));
    const I integers = L::to_int(L::max(code, L::set1(-127.0f)));
    L::store_u8(reinterpret_cast<uint8_t*>(codes) + i, integers);
    sums[i / kLanes] = Bytes::sum(integers);
  }
}

template <size_t block>
TSUBU_INLINE float magnitude(const float* x) {
  F most = L::zero();
  for (size_t i = 0; i < block; i += kLanes) most = L::max(most, L::abs(L::load(x + i)));
  return L::hmax(most);
}

// The first of the values with the largest magnitude.
TSUBU_INLINE float extreme_of_256(const float* x) {
  F most = L::zero(), least = L::zero();
  for (size_t i = 0; i < 256; i += kLanes) {
    most = L::max(most, L::load(x + i));
    least = L::max(least, L::neg(L::load(x + i)));
  }
  const float up = L::hmax(most), down = L::hmax(least);
  if (up != down) return up > down ? up : -down;
  for (size_t j = 0; j < 256; ++j)
    if (x[j] == up || x[j] == -up) return x[j];
  return 0.0f;
}

void encode_q8_0(const float* x, size_t n, int8_t* codes, int32_t* sums, float* scales) {
  for (size_t i = 0; i < n; i += 32) {
    const float amax = magnitude<32>(x + i);
    scales[i / 32] = f16_to_f32(f32_to_f16(amax / 127.0f));
    encode_block<32>(x + i, codes + i, sums + i / 16, amax != 0.0f ? 127.0f / amax : 0.0f);
  }
}

void encode_q8_k(const float* x, size_t n, int8_t* codes, int32_t* sums, float* scales) {
  for (size_t i = 0; i < n; i += 256) {
    const float extreme = extreme_of_256(x + i);
    const float to_code = extreme != 0.0f ? -127.0f / extreme : 0.0f;
    scales[i / 256] = extreme != 0.0f ? 1.0f / to_code : 0.0f;
    encode_block<256>(x + i, codes + i, sums + i / 16, to_code);
  }
}

}  // namespace
}  // namespace tsubu::TSUBU_ISA
