// Sixteen blocks or sub-blocks of n weights, one in each lane: every step of a search serves all of them, nothing is reduced
// across lanes, and the candidates can be few and of any number. A lane's result does not depend on the others.
#pragma once

#include "codec/codec.h"
#include "codec/weights.h"

namespace tsubu {

// Element i of every block, lane by lane.
template <int n>
struct Panel {
  float x[n][kLanes];
  float w[n][kLanes];
};

// Sixteen rows of n values that follow each other.
template <class L, int n>
TSUBU_INLINE void turn(const float* rows, float (*out)[kLanes]) {
  for (int c = 0; c < n; c += kLanes) L::transpose(rows + c, n, out[c], kLanes);
}

// n blocks of 32 values; those that are not there are zeros.
template <class L>
TSUBU_INLINE void turn_blocks(const float* x, int n, float (*out)[kLanes]) {
  const float* from = x;
  float some[kLanes * 32];
  if (n < kLanes) {
    for (int i = 0; i < kLanes * 32; i += kLanes) L::store(some + i, i < 32 * n ? L::load(x + i) : L::zero());
    from = some;
  }
  turn<L, 32>(from, out);
}

template <class L>
struct PanelExtremes {
  typename L::F largest;  // max |x|
  typename L::F extreme;  // the value of largest magnitude (the positive one of two)
};

// Clamps x to what no scale overflows on, and makes weights of mean one of it (as copy_clamped and weigh do).
template <class L>
TSUBU_INLINE PanelExtremes<L> weigh_panel(const float* importance, int n, const Row& row, Panel<32>& p) {
  const auto limit = L::set1(kOverflow);
  auto low = L::zero(), high = L::zero(), squares = L::zero();
  for (int i = 0; i < 32; ++i) {
    const auto v = L::max(L::min(L::load(p.x[i]), limit), L::neg(limit));
    L::store(p.x[i], v);
    low = L::min(low, v);
    high = L::max(high, v);
    squares = L::fma(v, v, squares);
  }
  const auto level = importance ? L::set1(row.mean_square) : L::mul(squares, L::set1(1.0f / 32));
  if (importance) turn_blocks<L>(importance, n, p.w);
  auto sum = L::zero();
  for (int i = 0; i < 32; ++i) {
    const auto v = L::load(p.x[i]);
    auto w = L::sqrt(L::fma(v, v, level));
    if (importance) w = L::mul(L::load(p.w[i]), w);
    L::store(p.w[i], w);
    sum = L::add(sum, w);
  }
  const auto mean = L::mul(sum, L::set1(1.0f / 32));
  const uint32_t usable_bits = L::mask_bits(L::gt(mean, L::set1(0x1p-100f))) & L::mask_bits(L::lt(mean, L::set1(0x1p100f)));
  const auto usable = L::mask_of(usable_bits);  // else the importance says nothing: all the same
  const auto scale = L::select(usable, L::div(L::set1(1.0f), mean), L::zero());
  const auto floor = L::select(usable, L::set1(0x1p-20f), L::set1(1.0f));
  for (int i = 0; i < 32; ++i) {
    const auto w = L::select(usable, L::load(p.w[i]), L::zero());
    L::store(p.w[i], L::fma(w, scale, floor));
  }
  const auto down = L::neg(low);
  return {L::max(high, down), L::select(L::lt(high, down), low, high)};
}

// Codes of up to sixteen blocks of 32: bytes 4 j … 4 j + 3 of a block's nibbles, and its fifth bits (codec/nibbles.h).
struct PanelCodes {
  uint32_t qs[4][kLanes];
  uint32_t qh[kLanes];

  template <class Block>
  TSUBU_INLINE void copy_block(int b, Block& to) const {
    for (int j = 0; j < 4; ++j) __builtin_memcpy(to.qs + 4 * j, &qs[j][b], 4);
    if constexpr (requires { to.qh; }) __builtin_memcpy(to.qh, &qh[b], 4);
  }
};

// code_of(i): weight i's codes, each once.
template <class L, int bits, class CodeOf>
TSUBU_INLINE void pack_panel(const CodeOf& code_of, PanelCodes& out) {
  auto fifth = L::set1_i(0);
  const auto taken = [&](int i) __attribute__((always_inline)) {
    const auto code = code_of(i);
    if constexpr (bits == 4) return code;
    fifth = L::bit_or(fifth, L::shift_left(L::template shift_right<4>(code), i));
    return L::bit_and(code, L::set1_i(15));
  };
  for (int j = 0; j < 4; ++j) {
    auto word = L::set1_i(0);
    for (int i = 3; i >= 0; --i) {
      const auto low = taken(4 * j + i), high = taken(4 * j + i + 16);
      word = L::bit_or(L::template shift_left<8>(word), L::bit_or(low, L::template shift_left<4>(high)));
    }
    L::store_i(reinterpret_cast<int32_t*>(out.qs[j]), word);
  }
  L::store_i(reinterpret_cast<int32_t*>(out.qh), fifth);
}

// The nearest f16 that is finite, and its value.
template <class L>
TSUBU_INLINE typename L::F store_finite_f16(uint16_t* to, typename L::F v) {
  const auto most = L::set1(65504.0f);
  L::store_f16(to, L::max(L::min(v, most), L::neg(most)));
  return L::load_f16(to);
}

// The sub-blocks of sub_len weights of the super-blocks that fill a panel, and the sums over a super-block's lanes.
template <int sub_len>
struct KPanel {
  static constexpr int kSub = 256 / sub_len;        // sub-blocks of a super-block
  static constexpr int kBlocks = kLanes / kSub;     // super-blocks of a panel
  Panel<sub_len> panel;
  float x[kBlocks * 256];
  float largest[kBlocks];  // max |x|

  // n super-blocks; those that are not there are zeros.
  template <class L>
  TSUBU_INLINE void load(const float* values, const float* importance, int n) {
    float w[kBlocks * 256];
    for (int b = 0; b < kBlocks; ++b) {
      float* to = x + 256 * b;
      largest[b] = 0;
      if (b < n) {
        largest[b] = copy_clamped<L, 256>(values + 256 * b, to);
        weigh<L, 256>(importance ? importance + 256 * b : nullptr, (importance ? 2 : 1) * mean_square_of<L, 256>(to), to, w + 256 * b);
      } else {
        for (int i = 0; i < 256; i += kLanes) L::store(to + i, L::zero()), L::store(w + 256 * b + i, L::set1(1.0f));
      }
    }
    turn<L, sub_len>(x, panel.x);
    turn<L, sub_len>(w, panel.w);
  }

  // sums[b]: over the lanes of super-block b.
  template <class L>
  static TSUBU_INLINE void sum_blocks(typename L::F value, float* sums) {
    if constexpr (kBlocks == 1) {
      sums[0] = L::hsum(value);
    } else {
      float v[kLanes];
      L::store(v, value);
      for (int b = 0; b < kBlocks; ++b) {
        const float* s = v + 8 * b;
        sums[b] = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
      }
    }
  }
  // One value for each super-block, in its lanes.
  template <class L>
  static TSUBU_INLINE typename L::F spread(const float* values) {
    if constexpr (kBlocks == 1) return L::set1(values[0]);
    return L::select(L::mask_of(0xff), L::set1(values[0]), L::set1(values[kBlocks - 1]));
  }
};

}  // namespace tsubu
