// What a symmetric codec's codes stand for in units of its scale: the nearest of evenly spaced integers, of IQ4's
// levels or of FP4's.
#pragma once

#include "codec/iq4.h"
#include "codec/weights.h"

namespace tsubu {

// Integers kLow … kHigh, stored as code - kLow.
template <int low, int high>
struct IntegerCodes {
  static constexpr float kLow = low;
  static constexpr float kHigh = high;
  template <class L>
  static TSUBU_INLINE typename L::F nearest(typename L::F t) {
    return L::round(L::max(L::min(t, L::set1(kHigh)), L::set1(kLow)));
  }
  // Of v · inverse.
  template <class L>
  static TSUBU_INLINE typename L::F nearest_product(typename L::F v, typename L::F inverse) {
    return round_product_within<L>(v, inverse, kLow, kHigh);
  }
  template <class L>
  static TSUBU_INLINE typename L::I stored(typename L::F t) {
    return L::to_int(L::sub(nearest<L>(t), L::set1(kLow)));
  }
};

// IQ4's sixteen levels. A quadratic in |t| maps the fifteen thresholds between levels to one per unit cell (within .3
// of the cells' middles), so the cell tells the one threshold to compare with and the answer is the exact nearest
// level.
struct Iq4Codes {
  static constexpr float kLow = -127;
  static constexpr float kHigh = 113;
  static constexpr float kThreshold[16] = {-115.5f, -93.5f, -74,   -57,   -42, -28.5f, -16, -4.5f,
                                           7,       19,     31.5f, 45.5f, 61,  79,     101, 127};
  static constexpr float kAbove[16] = {-104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113, 113};

  template <class L>
  struct Cell {
    typename L::I index;
    typename L::M above;  // the level above the cell's threshold
  };
  template <class L>
  static TSUBU_INLINE Cell<L> cell_of(typename L::F t) {
    const auto inside = L::max(L::min(t, L::set1(114.0f)), L::set1(-128.0f));
    const auto u = L::add(inside, L::set1(4.5f));
    const auto slope = L::sub(L::set1(0.0897f), L::mul(L::abs(u), L::set1(0.00024f)));
    // kToInteger leaves the rounded sum in the low bits; lookup16 reads four of them.
    const auto index = L::bits(L::add(L::add(L::mul(u, slope), L::set1(7.0f)), L::set1(kToInteger)));
    return {index, L::gt(inside, L::lookup16(kThreshold, index))};
  }
  template <class L>
  static TSUBU_INLINE typename L::F nearest(typename L::F t) {
    const Cell<L> cell = cell_of<L>(t);
    return L::select(cell.above, L::lookup16(kAbove, cell.index), L::lookup16(kIq4Levels, cell.index));
  }
  template <class L>
  static TSUBU_INLINE typename L::F nearest_product(typename L::F v, typename L::F inverse) {
    return nearest<L>(L::mul(v, inverse));
  }
  template <class L>
  static TSUBU_INLINE typename L::I stored(typename L::F t) {
    const Cell<L> cell = cell_of<L>(t);
    return L::add(L::bit_and(cell.index, L::set1_i(15)), L::select(cell.above, L::set1_i(1), L::set1_i(0)));
  }
};

// FP4 (E2M1) in units of half its scale: ±{0, 1, 2, 3, 4, 6, 8, 12}, stored with the sign in bit 3 (zero without).
struct E2m1Codes {
  static constexpr float kLow = -12;
  static constexpr float kHigh = 12;
  template <class L>
  static TSUBU_INLINE typename L::F nearest_magnitude(typename L::F t) {
    const auto a = L::min(L::abs(t), L::set1(kHigh));
    const auto by_two = L::mul(L::round(L::mul(a, L::set1(0.5f))), L::set1(2.0f));
    const auto by_four = L::mul(L::round(L::mul(a, L::set1(0.25f))), L::set1(4.0f));
    const auto coarse = L::select(L::lt(a, L::set1(8.0f)), by_two, by_four);
    return L::select(L::lt(a, L::set1(4.0f)), L::round(a), coarse);
  }
  template <class L>
  static TSUBU_INLINE typename L::F nearest(typename L::F t) {
    const auto magnitude = nearest_magnitude<L>(t);
    return L::select(L::lt(t, L::zero()), L::neg(magnitude), magnitude);
  }
  template <class L>
  static TSUBU_INLINE typename L::I stored(typename L::F t) {
    const auto m = nearest_magnitude<L>(t);  // 6, 8, 12 are the codes 5, 6, 7
    const auto upper = L::min(L::mul(L::add(m, L::set1(4.0f)), L::set1(0.5f)), L::set1(7.0f));
    const auto code = L::to_int(L::select(L::gt(m, L::set1(4.0f)), upper, m));
    const auto sign = L::select(L::lt(t, L::set1(-0.5f)), L::set1_i(8), L::set1_i(0));
    return L::bit_or(code, sign);  // t = -0.5 rounds to zero
  }
};

}  // namespace tsubu
