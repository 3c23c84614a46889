// What a symmetric codec's codes stand for in units of its scale: the nearest of evenly spaced integers or of IQ4's
// levels.
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
    // 1.5·2^23 leaves the rounded sum in the low bits; lookup16 reads four of them.
    const auto index = L::bits(L::add(L::add(L::mul(u, slope), L::set1(7.0f)), L::set1(12582912.0f)));
    return {index, L::gt(inside, L::lookup16(kThreshold, index))};
  }
  template <class L>
  static TSUBU_INLINE typename L::F nearest(typename L::F t) {
    const Cell<L> cell = cell_of<L>(t);
    return L::select(cell.above, L::lookup16(kAbove, cell.index), L::lookup16(kIq4Levels, cell.index));
  }
  template <class L>
  static TSUBU_INLINE typename L::I stored(typename L::F t) {
    const Cell<L> cell = cell_of<L>(t);
    return L::add(L::bit_and(cell.index, L::set1_i(15)), L::select(cell.above, L::set1_i(1), L::set1_i(0)));
  }
};

}  // namespace tsubu
