// Encoding of the IQ1, IQ2 and IQ3 formats: 256 weights, one f16 d, an integer scale for each sub-block, groups of 8
// that are points of a grid (codec/lattice_grid.h): w = d · unit(scale) · level, for IQ1 d · unit(scale) · (level ±
// 1/8).
//   1. every sub-block's own best scale, of sixteen (eight for IQ1, with either shift); d from the largest;
//   2. given d, all sixteen scales of a sub-block (all eight with either shift) stand in the sixteen lanes: the best of
//   them by the exact error of their nearest points, so the encoding is optimal for that d;
//   3. d by least squares for the points chosen; 2 and 3 are repeated.
#pragma once

#include "codec/codec.h"
#include "codec/lattice_grid.h"
#include "codec/weights.h"

namespace tsubu {

// A codec's scales, for encode_lattice_k:
//   kSubLen        weights that share an integer scale
//   kShiftLen      weights that share a shift (IQ1)
//   kMax           the largest integer scale
//   unit(k)        what scale k multiplies d with
//   kLow, kHigh    the sub-blocks' own scales tried, times the largest level over the largest magnitude
//   kMeanSquares   of the block, in the size factor of an error's weight (codec/weights.h)
// The errors Σ w (x - y)² of a sub-block under sixteen scales. value: the weights, without signs but for IQ1; odd: has
// a group an odd number of minus signs? IQ1: lanes 8 … 15 have the shift -1/8, the others 1/8.
template <class L, class Form, class Scales>
TSUBU_INLINE typename L::F sub_block_errors(const float* value, const float* w, const uint8_t* odd,
                                            typename L::F scale) {
  using F = typename L::F;
  constexpr bool kShift = Form::kSigns == LatticeSigns::kShift;
  constexpr bool kEven = Form::kSigns == LatticeSigns::kEven;
  F scaled[Form::Index::kLevels];
  for (int l = 0; l < Form::Index::kLevels; ++l) {
    F level = L::set1(Form::points().level[l]);
    if constexpr (kShift) level = L::add(level, L::select(L::mask_of(0xff), L::set1(0.125f), L::set1(-0.125f)));
    scaled[l] = L::mul(level, scale);
  }
  F sum = L::zero();
  GroupErrors<L, Form> errors;
  for (int g = 0; g < Scales::kSubLen / 8; ++g) {
    const GroupValues<L, true> group = {value + 8 * g, w + 8 * g};
    if (kEven && odd[g])
      fill_errors<L, Form, kEven>(scaled, group, errors);
    else
      fill_errors<L, Form, false>(scaled, group, errors);
    F least = least_group_error<L, Form>(errors, kEven && odd[g]);
    if constexpr (kShift && Scales::kShiftLen == 8) {  // a group's own shift: the lower of lanes l and l ± 8
      float twice[2 * kLanes];
      L::store(twice, least);
      L::store(twice + kLanes, least);
      least = L::min(least, L::load(twice + 8));
    }
    sum = L::add(sum, least);
  }
  return sum;
}

// Rounds a block's groups under the scales and shifts in `out`, IQ1_M's with the better shift.
template <class L, class Form, class Scales>
TSUBU_INLINE void round_lattice_k(const Weighted<256>& block, float d, LatticeBlock& out) {
  constexpr int kShifts = Form::kSigns == LatticeSigns::kShift && Scales::kShiftLen == 8 ? 2 : 1;
  for (int first = 0; first < 32; first += kLanes) {
    float scale[kLanes];
    float least[kLanes] = {};
    for (int g = 0; g < kLanes; ++g) scale[g] = d * Scales::unit(out.scale[8 * (first + g) / Scales::kSubLen]);
    for (int s = 0; s < kShifts; ++s) {
      LatticeCode code[kLanes];
      float error[kLanes];
      float shift[kLanes];
      for (int g = 0; g < kLanes; ++g) shift[g] = s == 0 ? out.shift[first + g] : -out.shift[first + g];
      round_groups<L, Form>(block.x + 8 * first, block.w + 8 * first, scale, shift, code, error);
      for (int g = 0; g < kLanes; ++g) {
        if (s > 0 && !(error[g] < least[g])) continue;
        least[g] = error[g];
        out.code[first + g] = code[g];
        out.shift[first + g] = shift[g];
      }
    }
  }
}

// The d of least error for the points chosen; 0 when there is none above zero.
template <class L, class Form, class Scales>
TSUBU_INLINE float fit_lattice_k(const Weighted<256>& block, const LatticeBlock& k) {
  float xa = 0;
  float aa = 0;
  for (int g = 0; g < 32; ++g) {
    float level[8];
    lattice_values<Form>(k.code[g], k.shift[g], level);
    float group_xa = 0;
    float group_aa = 0;
    for (int i = 0; i < 8; ++i) {
      const float wa = block.w[8 * g + i] * level[i];
      group_xa += wa * block.x[8 * g + i];
      group_aa += wa * level[i];
    }
    const float unit = Scales::unit(k.scale[8 * g / Scales::kSubLen]);
    xa += group_xa * unit;
    aa += group_aa * unit * unit;
  }
  return xa > 0 && aa > 0 ? xa / aa : 0.0f;
}

// The largest |x - y|.
template <class Form, class Scales>
TSUBU_INLINE float worst_lattice_k(const Weighted<256>& block, const LatticeBlock& k) {
  float worst = 0;
  for (int g = 0; g < 32; ++g) {
    float level[8];
    lattice_values<Form>(k.code[g], k.shift[g], level);
    const float scale = k.d.value() * Scales::unit(k.scale[8 * g / Scales::kSubLen]);
    for (int i = 0; i < 8; ++i) {
      const float difference = scale * level[i] - block.x[8 * g + i];
      const float error = difference < 0 ? -difference : difference;
      worst = error > worst ? error : worst;
    }
  }
  return worst;
}

// bound: of the relative error; a block that would exceed it gets, everywhere, the scale that puts its largest
// magnitude at the largest level.
template <class L, class Form, class Scales>
TSUBU_INLINE LatticeBlock encode_lattice_k(const float* x, const float* importance, double bound) {
  constexpr bool kShift = Form::kSigns == LatticeSigns::kShift;
  constexpr int kSubs = 256 / Scales::kSubLen;
  constexpr int kSubGroups = Scales::kSubLen / 8;
  constexpr int kPasses = 2;
  const float largest_level = Form::points().level[Form::Index::kLevels - 1];
  LatticeBlock out = {};
  Weighted<256> block;
  copy_clamped<L, 256>(x, block);
  if (block.largest < kNegligible) return out;
  weigh<L, 256>(importance, (importance ? Scales::kMeanSquares : 1) * mean_square_of<L, 256>(block), block);

  float value[256];
  uint8_t odd[32];
  for (int i = 0; i < 256; i += kLanes) {
    const auto v = L::load(block.x + i);
    L::store(value + i, kShift ? v : L::abs(v));
    const uint32_t minus = L::mask_bits(L::lt(v, L::zero()));
    odd[i / 8] = static_cast<uint8_t>(__builtin_popcount(minus & 0xff) & 1);
    odd[i / 8 + 1] = static_cast<uint8_t>(__builtin_popcount(minus >> 8) & 1);
  }
  float units[kLanes];
  float tried[kLanes];
  for (int l = 0; l < kLanes; ++l) {
    const int k = kShift ? l % 8 : l;
    units[l] = Scales::unit(k);
    tried[l] = Scales::kLow + (Scales::kHigh - Scales::kLow) * static_cast<float>(k) / (kShift ? 7.0f : 15.0f);
  }

  float d = 0;
  for (int pass = 0; pass <= kPasses; ++pass) {  // pass 0 finds d, the others choose scales and points
    out.d = Half::of(d);
    float largest_scale = 0;
    for (int s = 0; s < kSubs; ++s) {
      const float* values = value + s * Scales::kSubLen;
      auto top = L::zero();
      for (int i = 0; i < Scales::kSubLen; i += kLanes) top = L::max(top, L::abs(L::load(values + i)));
      const auto scales = pass == 0 ? L::mul(L::load(tried), L::set1(L::hmax(top) / largest_level))
                                    : L::mul(L::load(units), L::set1(out.d.value()));
      const auto errors =
          sub_block_errors<L, Form, Scales>(values, block.w + s * Scales::kSubLen, odd + s * kSubGroups, scales);
      const int best = best_lane<L>(L::neg(errors));
      const float scale = lane<L>(scales, best);
      largest_scale = scale > largest_scale ? scale : largest_scale;
      out.scale[s] = static_cast<uint8_t>(kShift ? best % 8 : best);
      for (int g = 0; g < kSubGroups; ++g) out.shift[s * kSubGroups + g] = best < 8 ? 0.125f : -0.125f;
    }
    if (pass == 0) {
      d = largest_scale / Scales::unit(Scales::kMax);
      continue;
    }
    round_lattice_k<L, Form, Scales>(block, out.d.value(), out);
    const float fitted = fit_lattice_k<L, Form, Scales>(block, out);
    if (fitted > 0) d = fitted;
  }
  out.d = Half::of(d * Scales::kGain);
  if (worst_lattice_k<Form, Scales>(block, out) <= static_cast<float>(bound) * block.largest) return out;

  out.d = Half::of(block.largest / ((kShift ? 1.125f : largest_level) * Scales::unit(Scales::kMax)));
  for (int s = 0; s < kSubs; ++s) out.scale[s] = Scales::kMax;
  for (int i = 0; i < 256; i += kLanes) L::store(block.w + i, L::set1(1.0f));
  round_lattice_k<L, Form, Scales>(block, out.d.value(), out);
  return out;
}

}  // namespace tsubu
