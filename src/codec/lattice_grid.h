// The nearest points of the IQ grids (codec/iq_grids.h) in a weighted norm, exactly, for groups of 8 weights whose
// scale is given: what the encoders search with (codec/lattice_k.h). Error feedback searches in norms with mixed terms
// (kernel/generic/lattice.cc).
//
// A group is one point of an 8-dimensional grid or two of a 4-dimensional one. Its error Σ w (x - s · p)² is a sum over
// coordinates, so it is the sum of two halves' errors, and a half takes only kHalfCodes (81 or 64) values. The table of
// a half is built by adding one coordinate after the other; after that a point of the grid costs one minimum, as points
// with the same second half stand together.
//
// Signs. IQ2 and IQ3 keep magnitudes and signs apart: free signs are those of the weights. Where the number of minus
// signs must be even and that of the weights is odd, exactly one of them is stored wrong (three are never better); a
// second table holds the error of a half with one wrong sign, at the best place. IQ1's levels have signs themselves and
// a common shift of ±1/8.
#pragma once

#include "codec/iq_grids.h"
#include "codec/lattice.h"

namespace tsubu {

enum class LatticeSigns { kFree, kEven, kShift };

// What a grid format is to the search. Example: IQ2_XXS is
//   using Lattice = LatticeForm<GridIndex<8, 3, 256>, kIq2xxsIndex, kIq2xxsGrid, LatticeSigns::kEven>;
template <class Index_, const Index_& index, const auto& grid, LatticeSigns signs>
struct LatticeForm {
  using Index = Index_;
  static constexpr LatticeSigns kSigns = signs;
  static constexpr int kPointsPerGroup = 8 / Index::kDims;
  static TSUBU_INLINE const Index& points() { return index; }
  // The levels of a point, as signed bytes.
  static TSUBU_INLINE uint64_t point_levels(uint32_t point) { return grid.points[point]; }
  // The eight levels of a group, as signed bytes: without signs but for IQ1.
  static TSUBU_INLINE uint64_t levels(uint32_t first, uint32_t second) {
    if constexpr (kPointsPerGroup == 1)
      return grid.points[first];
    else
      return joined(grid.points[first], grid.points[second]);
  }
};

// Values or errors of sixteen groups (or of one group under sixteen scales): what half takes which code at which error.
template <class L, class Form>
struct GroupErrors {
  static constexpr int kHalves = 2 * Form::kPointsPerGroup;
  typename L::F right[kHalves][Form::Index::kHalfCodes];
  typename L::F wrong[Form::kSigns == LatticeSigns::kEven ? kHalves : 1][Form::Index::kHalfCodes];  // one sign wrong
};

// Values (without their signs but for IQ1) and weights of a group: 8 for all lanes, or 8 times sixteen, a lane each.
template <class L, bool same_in_all_lanes>
struct GroupValues {
  const float* value;
  const float* weight;
  TSUBU_INLINE typename L::F value_at(int i) const {
    if constexpr (same_in_all_lanes)
      return L::set1(value[i]);
    else
      return L::load(value + i * kLanes);
  }
  TSUBU_INLINE typename L::F weight_at(int i) const {
    if constexpr (same_in_all_lanes)
      return L::set1(weight[i]);
    else
      return L::load(weight + i * kLanes);
  }
};

// scaled: the levels times the scale (IQ1: plus the shift before). with_wrong: fill the second table too.
template <class L, class Form, bool with_wrong, bool same_in_all_lanes>
TSUBU_OUTLINE void fill_errors(const typename L::F* scaled, GroupValues<L, same_in_all_lanes> group,
                               GroupErrors<L, Form>& errors) {
  using F = typename L::F;
  constexpr int kLevels = Form::Index::kLevels;
  constexpr int kHalfDims = Form::Index::kDims / 2;
  for (int half = 0; half < errors.kHalves; ++half) {
    F* const right = errors.right[half];
    F* const wrong = errors.wrong[with_wrong ? half : 0];
    for (int i = 0, n = 1; i < kHalfDims; ++i, n *= kLevels) {
      const F x = group.value_at(half * kHalfDims + i);
      const F w = group.weight_at(half * kHalfDims + i);
      for (int level = kLevels - 1; level >= 0; --level) {  // level 0 last: it replaces the shorter table
        const F difference = L::sub(scaled[level], x);
        const F error = L::mul(L::mul(difference, difference), w);
        F* const right_out = right + level * n;
        if constexpr (with_wrong) {
          const F sum = L::add(scaled[level], x);
          const F error_wrong = L::mul(L::mul(sum, sum), w);
          F* const wrong_out = wrong + level * n;
          if (i == 0)
            wrong_out[0] = error_wrong;
          else
            for (int c = 0; c < n; ++c) wrong_out[c] = L::min(L::add(wrong[c], error), L::add(right[c], error_wrong));
        }
        if (i == 0)
          right_out[0] = error;
        else
          for (int c = 0; c < n; ++c) right_out[c] = L::add(right[c], error);
      }
    }
  }
}

// The least error of a point in each lane.
template <class L, class Index>
TSUBU_OUTLINE typename L::F least_error(const Index& index, const typename L::F* first, const typename L::F* second) {
  using F = typename L::F;
  F least = L::set1(3e38f);
  for (int h = 0, k = 0; h < Index::kHalfCodes; ++h) {
    const int end = index.start[h + 1];
    if (k == end) continue;
    F m = first[index.first[k]];
    for (++k; k < end; ++k) m = L::min(m, first[index.first[k]]);
    least = L::min(least, L::add(m, second[h]));
  }
  return least;
}

// The least error of a group in each lane. odd: its number of minus signs, where that matters.
template <class L, class Form>
TSUBU_INLINE typename L::F least_group_error(const GroupErrors<L, Form>& errors, bool odd) {
  const auto& index = Form::points();
  const auto& r = errors.right;
  const auto& f = errors.wrong;
  if constexpr (Form::kSigns == LatticeSigns::kEven) {
    if (odd) {
      const auto first = L::min(least_error<L>(index, f[0], r[1]), least_error<L>(index, r[0], f[1]));
      if constexpr (Form::kPointsPerGroup == 1)
        return first;
      else {
        const auto second = L::min(least_error<L>(index, f[2], r[3]), least_error<L>(index, r[2], f[3]));
        return L::min(L::add(first, least_error<L>(index, r[2], r[3])),
                      L::add(second, least_error<L>(index, r[0], r[1])));
      }
    }
  }
  const auto first = least_error<L>(index, r[0], r[1]);
  if constexpr (Form::kPointsPerGroup == 1)
    return first;
  else
    return L::add(first, least_error<L>(index, r[2], r[3]));
}

template <class L>
struct NearestPoint {
  typename L::F error;
  typename L::I point;
};

// The nearest point in each lane, the first of several.
template <class L, class Index>
TSUBU_OUTLINE NearestPoint<L> nearest_point(const Index& index, const typename L::F* first,
                                            const typename L::F* second) {
  NearestPoint<L> best = {L::set1(3e38f), L::set1_i(0)};
  for (int h = 0, k = 0; h < Index::kHalfCodes; ++h)
    for (; k < index.start[h + 1]; ++k) {
      const auto error = L::add(first[index.first[k]], second[h]);
      const auto better = L::lt(error, best.error);
      best.error = L::select(better, error, best.error);
      best.point = L::select(better, L::set1_i(k), best.point);
    }
  return best;
}

template <class L>
TSUBU_INLINE NearestPoint<L> nearer(const NearestPoint<L>& a, const NearestPoint<L>& b) {
  const auto better = L::lt(b.error, a.error);
  return {L::select(better, b.error, a.error), L::select(better, b.point, a.point)};
}

// The points of sixteen groups. odd: lanes with an odd number of minus signs, where that matters.
template <class L>
struct NearestGroup {
  typename L::F error;
  typename L::I point[2];
};
template <class L, class Form>
TSUBU_INLINE NearestGroup<L> nearest_group(const GroupErrors<L, Form>& errors, typename L::M odd) {
  const auto& index = Form::points();
  const auto& r = errors.right;
  const auto& f = errors.wrong;
  const auto first = nearest_point<L>(index, r[0], r[1]);
  if constexpr (Form::kPointsPerGroup == 1) {
    if constexpr (Form::kSigns != LatticeSigns::kEven)
      return {first.error, {first.point, L::set1_i(0)}};
    else {
      if (L::mask_bits(odd) == 0) return {first.error, {first.point, L::set1_i(0)}};
      const auto wrong = nearer<L>(nearest_point<L>(index, f[0], r[1]), nearest_point<L>(index, r[0], f[1]));
      return {L::select(odd, wrong.error, first.error), {L::select(odd, wrong.point, first.point), L::set1_i(0)}};
    }
  } else {
    const auto second = nearest_point<L>(index, r[2], r[3]);
    const NearestGroup<L> all_right = {L::add(first.error, second.error), {first.point, second.point}};
    if constexpr (Form::kSigns != LatticeSigns::kEven)
      return all_right;
    else {
      if (L::mask_bits(odd) == 0) return all_right;
      const auto wrong1 = nearer<L>(nearest_point<L>(index, f[0], r[1]), nearest_point<L>(index, r[0], f[1]));
      const auto wrong2 = nearer<L>(nearest_point<L>(index, f[2], r[3]), nearest_point<L>(index, r[2], f[3]));
      const auto error1 = L::add(wrong1.error, second.error);
      const auto error2 = L::add(first.error, wrong2.error);
      const auto take2 = L::lt(error2, error1);
      const auto point1 = L::select(take2, first.point, wrong1.point);
      const auto point2 = L::select(take2, wrong2.point, second.point);
      return {L::select(odd, L::select(take2, error2, error1), all_right.error),
              {L::select(odd, point1, first.point), L::select(odd, point2, second.point)}};
    }
  }
}

// The levels of a rounded group in units of its scale, and of the shift.
template <class Form>
TSUBU_INLINE void lattice_values(const LatticeCode& code, float shift, float* level) {
  const uint64_t bytes = Form::levels(code.point[0], code.point[1]);
  for (int i = 0; i < 8; ++i) {
    const float l = static_cast<float>(static_cast<int8_t>(bytes >> (8 * i)));
    level[i] = Form::kSigns == LatticeSigns::kShift ? l + shift : code.minus >> i & 1 ? -l : l;
  }
}

// Rounds sixteen groups of 8 values to the nearest points of the grid.
//   x, w      (16, 8): values and weights ≥ 0 of their errors
//   scale     (16): ≥ 0, the whole factor of a level: IQ2_XXS's d · (0.5 + scale) · 0.25, for instance
//   shift     (16): ±1/8 for IQ1, ignored else
//   code, error   (16) of the rounded groups and their weighted errors
template <class L, class Form>
TSUBU_OUTLINE void round_groups(const float* x, const float* w, const float* scale, const float* shift,
                                LatticeCode* code, float* error) {
  using F = typename L::F;
  constexpr bool kSigned = Form::kSigns == LatticeSigns::kShift;
  float turned_x[8][kLanes];
  float turned_w[8][kLanes];
  uint32_t odd = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    uint32_t minus = 0;
    for (int i = 0; i < 8; ++i) {
      const float v = x[8 * lane + i];
      minus |= static_cast<uint32_t>(!kSigned && v < 0) << i;
      turned_x[i][lane] = !kSigned && v < 0 ? -v : v;
      turned_w[i][lane] = w[8 * lane + i];
    }
    code[lane].minus = static_cast<uint8_t>(minus);
    odd |= static_cast<uint32_t>(__builtin_popcount(minus) & 1) << lane;
  }
  F scaled[Form::Index::kLevels];
  for (int l = 0; l < Form::Index::kLevels; ++l) {
    F level = L::set1(Form::points().level[l]);
    if constexpr (kSigned) level = L::add(level, L::load(shift));
    scaled[l] = L::mul(level, L::load(scale));
  }
  GroupErrors<L, Form> errors;
  fill_errors<L, Form, Form::kSigns == LatticeSigns::kEven>(scaled, GroupValues<L, false>{turned_x[0], turned_w[0]},
                                                            errors);
  const NearestGroup<L> nearest = nearest_group<L, Form>(errors, L::mask_of(odd));
  L::store(error, nearest.error);
  int32_t point[2][kLanes];
  L::store_i(point[0], nearest.point[0]);
  L::store_i(point[1], nearest.point[1]);
  for (int lane = 0; lane < kLanes; ++lane) {
    LatticeCode& c = code[lane];
    c.point[0] = static_cast<uint16_t>(point[0][lane]);
    c.point[1] = static_cast<uint16_t>(point[1][lane]);
    if (Form::kSigns != LatticeSigns::kEven || (odd >> lane & 1) == 0) continue;
    // A wrong sign at magnitude l costs 4 · w · s · |x| · l more: it goes where that is least.
    const uint64_t bytes = Form::levels(c.point[0], c.point[1]);
    int cheapest = 0;
    float least = 3e38f;
    for (int i = 0; i < 8; ++i) {
      const float cost = turned_w[i][lane] * turned_x[i][lane] * static_cast<float>(bytes >> (8 * i) & 255);
      if (cost < least) {
        least = cost;
        cheapest = i;
      }
    }
    c.minus = static_cast<uint8_t>(c.minus ^ 1u << cheapest);
  }
}

template <class C>
constexpr LatticeAccess lattice_access() {
  return {256 / C::Scales::kSubLen, C::Lattice::kPointsPerGroup,
          [](const LatticeBlock& k, std::byte* bytes) { *reinterpret_cast<typename C::Block*>(bytes) = C::pack(k); },
          [](const std::byte* bytes, LatticeBlock& k) {
            C::unpack(*reinterpret_cast<const typename C::Block*>(bytes), k);
          }};
}

}  // namespace tsubu
