// Rounding on grids against a quadratic form: sixteen rows in the lanes, columns one after another.
//   grid_feedback  LDLQ / GPTQ: with H = M D Mᵀ (M unit upper triangular), column j is rounded at
//                  w_j + Σ_{i<j} (w_i - ŵ_i) M_ij. Sources: Frantar et al. 2210.17323; Chee et al. 2307.13304.
//   grid_descend   coordinate descent on (w - ŵ) H (w - ŵ)ᵀ over codes, integer scales and minimums, d and dmin.
// Every step is accepted on its exact change of the form, so descent never makes it larger (up to rounding of sums).
#include "kernel/generic/descent.h"
#include "kernel/grid_panel.h"
#include "kernel/kernels.h"

namespace tsubu::TSUBU_ISA {

void fill_grid_kernels(Kernels& k);

namespace {

template <bool even>
TSUBU_INLINE F nearest_level(const GridSpec& spec, F t) {
  if constexpr (even) {
    const F low = Lanes::set1(spec.levels[0]), high = Lanes::set1(spec.levels[spec.n_levels - 1]);
    return Lanes::round(Lanes::max(Lanes::min(t, high), low));
  } else {
    F level = Lanes::set1(spec.levels[0]);
    for (int i = 1; i < spec.n_levels; ++i) {
      const F middle = Lanes::set1(0.5f * (spec.levels[i - 1] + spec.levels[i]));
      level = Lanes::select(Lanes::gt(t, middle), Lanes::set1(spec.levels[i]), level);
    }
    return level;
  }
}

// A sub-block's affine map as the decoder computes it: value = factor · level - offset.
struct Map {
  F factor, inverse, offset;
};

TSUBU_INLINE Map map_of(F d, F dmin, F scale, F min) {
  const F factor = Lanes::mul(d, scale);
  const F one = Lanes::set1(1.0f);
  const auto usable = Lanes::gt(Lanes::abs(factor), Lanes::set1(kTiny));
  const F inverse = Lanes::select(usable, Lanes::div(one, Lanes::select(usable, factor, one)), Lanes::zero());
  return {factor, inverse, Lanes::mul(dmin, min)};
}

TSUBU_INLINE F value_of(const Map& m, F level) { return Lanes::sub(Lanes::mul(m.factor, level), m.offset); }

template <bool even>
TSUBU_INLINE F level_of(const GridSpec& spec, const Map& m, F x) {
  return nearest_level<even>(spec, Lanes::mul(Lanes::add(x, m.offset), m.inverse));
}

TSUBU_INLINE F clamped(F x, int low, int high) {
  return Lanes::max(Lanes::min(x, Lanes::set1(static_cast<float>(high))), Lanes::set1(static_cast<float>(low)));
}

// Steps of (scale, minimum) that are tried, the present one first. Grids without minimums take the first kScaleTries of
// kScaleMoves.
struct Move {
  float scale, min;
};
constexpr Move kScaleMoves[] = {{0, 0}, {-1, 0}, {1, 0}, {-2, 0}, {2, 0}, {-3, 0}, {3, 0}};
constexpr Move kAffineMoves[] = {{0, 0},  {-1, 0}, {1, 0},  {0, -1}, {0, 1},  {-1, -1}, {1, 1},
                                 {-1, 1}, {1, -1}, {-2, 0}, {2, 0},  {0, -2}, {0, 2}};
constexpr Move kFineMoves[] = {{0, 0}, {-1, 0}, {1, 0}, {-2, 0}, {2, 0}};

struct Moves {
  const Move* move;
  int n;
};
TSUBU_INLINE Moves moves_of(const GridSpec& spec) {
  if (spec.has_mins()) return {kAffineMoves, 13};
  if (spec.has_scales()) return {kScaleMoves, 7};
  return {kFineMoves, 1};
}

// The integer scale and minimum of sub-block s with the least Σ weight (x - nearest)², x the compensated weights.
template <bool even>
TSUBU_INLINE void choose_scale(GridPanel& p, int s, const float* x, const float* weight) {
  const GridSpec& spec = *p.spec;
  const Moves moves = moves_of(spec);
  if (moves.n == 1) return;
  const int block = s / spec.n_sub;
  const F d = Lanes::load(p.d + 16 * block), dmin = Lanes::load(p.dmin + 16 * block);
  const F scale = Lanes::load(p.scale + 16 * s), min = Lanes::load(p.min + 16 * s);
  F best_scale = scale, best_min = min, least = Lanes::zero();
  for (int i = 0; i < moves.n; ++i) {
    const F sc = clamped(Lanes::add(scale, Lanes::set1(moves.move[i].scale)), spec.scale_low, spec.scale_high);
    const F mn = clamped(Lanes::add(min, Lanes::set1(moves.move[i].min)), spec.min_low, spec.min_high);
    const Map m = map_of(d, dmin, sc, mn);
    F error = Lanes::zero();
    for (int j = 0; j < spec.sub_len; ++j) {
      const F v = Lanes::load(x + 16 * j);
      const F e = Lanes::sub(v, value_of(m, level_of<even>(spec, m, v)));
      error = Lanes::fma(Lanes::mul(e, e), Lanes::set1(weight[j]), error);
    }
    const auto better = Lanes::lt(error, least);
    best_scale = i == 0 ? sc : Lanes::select(better, sc, best_scale);
    best_min = i == 0 ? mn : Lanes::select(better, mn, best_min);
    least = i == 0 ? error : Lanes::select(better, error, least);
  }
  Lanes::store(p.scale + 16 * s, best_scale);
  Lanes::store(p.min + 16 * s, best_min);
}

TSUBU_INLINE Map map_at(const GridPanel& p, int s) {
  const int block = s / p.spec->n_sub;
  return map_of(Lanes::load(p.d + 16 * block), Lanes::load(p.dmin + 16 * block), Lanes::load(p.scale + 16 * s),
                Lanes::load(p.min + 16 * s));
}

template <bool even>
TSUBU_INLINE void feedback(GridPanel& p, int block, const float* w, float* t, const float* m, size_t ldm,
                           const float* weight, bool choose) {
  const GridSpec& spec = *p.spec;
  for (int s = block * spec.n_sub; s < (block + 1) * spec.n_sub; ++s) {
    const int first = s * spec.sub_len;
    if (choose) choose_scale<even>(p, s, t + 16 * first, weight + first);
    const Map map = map_at(p, s);
    for (int j = first; j < first + spec.sub_len; ++j) {
      const F level = level_of<even>(spec, map, Lanes::load(t + 16 * j));
      const F value = value_of(map, level);
      Lanes::store(p.level + 16 * j, level);
      Lanes::store(p.value + 16 * j, value);
      const F residual = Lanes::sub(Lanes::load(w + 16 * j), value);
      const float* row = m + static_cast<size_t>(j) * ldm;
      for (int k = j + 1; k < p.n_cols; ++k)
        Lanes::store(t + 16 * k, Lanes::fma(residual, Lanes::set1(row[k]), Lanes::load(t + 16 * k)));
    }
  }
}

void grid_feedback(GridPanel& p, int block, const float* w, float* t, const float* m, size_t ldm, const float* weight,
                   bool choose) {
  if (p.spec->even)
    feedback<true>(p, block, w, t, m, ldm, weight, choose);
  else
    feedback<false>(p, block, w, t, m, ldm, weight, choose);
}

// What a change of the lanes' rows moves their g by, together.
TSUBU_INLINE F spread(const GridPanel& p, F change) {
  if (!p.coupling) return change;
  alignas(64) float c[kPanelRows];
  Lanes::store(c, change);
  F sum = Lanes::zero();
  for (int s = 0; s < kPanelRows; ++s) sum = Lanes::fma(Lanes::set1(c[s]), Lanes::load(p.coupling + kPanelRows * s), sum);
  return sum;
}

// The codes of column j of coupled rows, one row after the other: each at its best after those before it. The change.
template <bool even>
TSUBU_INLINE F move_coupled(GridPanel& p, const Map& map, int j, F g, float hjj, uint32_t rows) {
  const GridSpec& spec = *p.spec;
  F value = Lanes::load(p.value + 16 * j), level = Lanes::load(p.level + 16 * j), sum = Lanes::zero();
  const F inverse = Lanes::set1(1.0f / hjj);
  for (; rows != 0; rows &= rows - 1) {
    const uint32_t row = rows & (0 - rows);
    const auto only = Lanes::mask_of(row);
    const F new_level = level_of<even>(spec, map, Lanes::fma(g, inverse, value)), new_value = value_of(map, new_level);
    const F change = Lanes::select(only, Lanes::sub(new_value, value), Lanes::zero());
    level = Lanes::select(only, new_level, level);
    value = Lanes::select(only, new_value, value);
    sum = Lanes::add(sum, change);
    alignas(64) float c[kPanelRows];
    Lanes::store(c, change);
    int s = 0;
    while ((row >> s & 1) == 0) ++s;
    g = Lanes::fma(Lanes::set1(-hjj * c[s]), Lanes::load(p.coupling + kPanelRows * s), g);
  }
  Lanes::store(p.level + 16 * j, level);
  Lanes::store(p.value + 16 * j, value);
  return sum;
}

// One pass over the codes of sub-block s: each at its best while the others stay.
template <bool even>
TSUBU_INLINE bool descend_codes(GridPanel& p, int s, float* g, const float* h, size_t ldh) {
  const GridSpec& spec = *p.spec;
  const Map map = map_at(p, s);
  bool moved = false;
  for (int j = s * spec.sub_len; j < (s + 1) * spec.sub_len; ++j) {
    const float hjj = h[static_cast<size_t>(j) * ldh + static_cast<size_t>(j)];
    const F old = Lanes::load(p.value + 16 * j);
    const F best = Lanes::fma(Lanes::load(g + 16 * j), Lanes::set1(1.0f / hjj), old);
    const F level = level_of<even>(spec, map, best);
    const F value = value_of(map, level);
    const F change = Lanes::sub(value, old);
    const uint32_t rows = Lanes::mask_bits(Lanes::gt(Lanes::abs(change), Lanes::zero()));
    if (rows == 0) continue;
    moved = true;
    if (p.coupling) {
      const F together = spread(p, move_coupled<even>(p, map, j, Lanes::load(g + 16 * j), hjj, rows));
      apply_change(g, p.n_cols, h, ldh, j, 1, &together);
      continue;
    }
    Lanes::store(p.level + 16 * j, level);
    Lanes::store(p.value + 16 * j, value);
    apply_change(g, p.n_cols, h, ldh, j, 1, &change);
  }
  return moved;
}

// Another integer scale and minimum for sub-block s, its codes rounded anew, where that lowers the form.
template <bool even>
TSUBU_INLINE void descend_scale(GridPanel& p, int s, float* g, const float* h, size_t ldh) {
  const GridSpec& spec = *p.spec;
  const Moves moves = spec.has_mins() ? Moves{kAffineMoves, 9} : moves_of(spec);
  if (moves.n == 1) return;
  const int first = s * spec.sub_len, block = s / spec.n_sub;
  const F d = Lanes::load(p.d + 16 * block), dmin = Lanes::load(p.dmin + 16 * block);
  const F scale = Lanes::load(p.scale + 16 * s), min = Lanes::load(p.min + 16 * s);
  F target[kSpan], change[kSpan], level[kSpan];
  F best_change[kSpan];
  const F bound = Lanes::set1(p.bound);
  for (int j = 0; j < spec.sub_len; ++j) {
    const size_t col = static_cast<size_t>(first + j);
    const F value = Lanes::load(p.value + 16 * col);
    target[j] = Lanes::fma(Lanes::load(g + 16 * col), Lanes::set1(1.0f / (p.bound * h[col * ldh + col])), value);
    best_change[j] = Lanes::zero();
  }
  F least = Lanes::zero(), best_scale = scale, best_min = min;
  bool any = false;
  for (int i = 1; i < moves.n; ++i) {
    const F sc = clamped(Lanes::add(scale, Lanes::set1(moves.move[i].scale)), spec.scale_low, spec.scale_high);
    const F mn = clamped(Lanes::add(min, Lanes::set1(moves.move[i].min)), spec.min_low, spec.min_high);
    const Map m = map_of(d, dmin, sc, mn);
    F energy = Lanes::zero();
    for (int j = 0; j < spec.sub_len; ++j) {
      const F value = value_of(m, level_of<even>(spec, m, target[j]));
      change[j] = Lanes::sub(value, Lanes::load(p.value + 16 * (first + j)));
      energy = Lanes::fma(change[j], Lanes::mul(Lanes::set1(-2.0f), Lanes::load(g + 16 * (first + j))), energy);
    }
    for (int j = 0; j < spec.sub_len; ++j) {
      const float* row = h + static_cast<size_t>(first + j) * ldh + first;
      F sum = Lanes::mul(change[j], Lanes::set1(row[j]));
      F off = Lanes::zero();
      for (int k = 0; k < j; ++k) off = Lanes::fma(change[k], Lanes::set1(row[k]), off);
      sum = Lanes::add(sum, Lanes::add(off, off));
      energy = Lanes::fma(change[j], Lanes::mul(bound, sum), energy);
    }
    const auto better = Lanes::lt(energy, least);
    if (Lanes::mask_bits(better) == 0) continue;
    any = true;
    least = Lanes::select(better, energy, least);
    best_scale = Lanes::select(better, sc, best_scale);
    best_min = Lanes::select(better, mn, best_min);
    for (int j = 0; j < spec.sub_len; ++j) best_change[j] = Lanes::select(better, change[j], best_change[j]);
  }
  if (!any) return;
  Lanes::store(p.scale + 16 * s, best_scale);
  Lanes::store(p.min + 16 * s, best_min);
  const Map m = map_of(d, dmin, best_scale, best_min);
  const auto moved = Lanes::lt(least, Lanes::zero());
  for (int j = 0; j < spec.sub_len; ++j) {
    const F old_level = Lanes::load(p.level + 16 * (first + j));
    level[j] = Lanes::select(moved, level_of<even>(spec, m, target[j]), old_level);
    Lanes::store(p.level + 16 * (first + j), level[j]);
    Lanes::store(p.value + 16 * (first + j), value_of(m, level[j]));
  }
  if (p.coupling)
    for (int j = 0; j < spec.sub_len; ++j) best_change[j] = spread(p, best_change[j]);
  apply_change(g, p.n_cols, h, ldh, first, spec.sub_len, best_change);
}

// d and dmin of one block by least squares for the codes and integers as they are.
TSUBU_INLINE void refit_block(GridPanel& p, int block, float* g, const float* h, size_t ldh) {
  const GridSpec& spec = *p.spec;
  const int first = block * spec.block_len, n = spec.block_len;
  F a[kSpan], ha[kSpan], hb[kSpan];
  F ag = Lanes::zero(), aha = Lanes::zero(), bg = Lanes::zero(), ahb = Lanes::zero(), bhb = Lanes::zero();
  const bool offset = spec.has_offset();
  for (int j = 0; j < n; ++j)
    a[j] =
        Lanes::mul(Lanes::load(p.scale + 16 * ((first + j) / spec.sub_len)), Lanes::load(p.level + 16 * (first + j)));
  for (int j = 0; j < p.n_cols; ++j) {
    const float* row = h + static_cast<size_t>(j) * ldh + first;
    F sum_a = Lanes::zero(), sum_b = Lanes::zero();
    for (int k = 0; k < n; ++k) sum_a = Lanes::fma(a[k], Lanes::set1(row[k]), sum_a);
    if (offset)
      for (int s = 0; s < spec.n_sub; ++s) {
        float of_sub = 0;
        for (int k = s * spec.sub_len; k < (s + 1) * spec.sub_len; ++k) of_sub += row[k];
        sum_b = Lanes::fma(Lanes::load(p.min + 16 * (block * spec.n_sub + s)), Lanes::set1(of_sub), sum_b);
      }
    ha[j] = sum_a;
    hb[j] = sum_b;
  }
  for (int j = 0; j < n; ++j) {
    const F gj = Lanes::load(g + 16 * (first + j));
    ag = Lanes::fma(a[j], gj, ag);
    aha = Lanes::fma(a[j], ha[first + j], aha);
    if (!offset) continue;
    const F b = Lanes::load(p.min + 16 * ((first + j) / spec.sub_len));
    bg = Lanes::fma(b, gj, bg);
    ahb = Lanes::fma(a[j], hb[first + j], ahb);
    bhb = Lanes::fma(b, hb[first + j], bhb);
  }
  if (p.coupling) {
    const F bound = Lanes::set1(p.bound);
    aha = Lanes::mul(aha, bound);
    ahb = Lanes::mul(ahb, bound);
    bhb = Lanes::mul(bhb, bound);
  }
  // [aHa -aHb; -aHb bHb] (δd, δmin) = (ag, -bg); without a usable second equation d alone.
  const F d = Lanes::load(p.d + 16 * block), dmin = Lanes::load(p.dmin + 16 * block);
  const F one = Lanes::set1(1.0f);
  const auto usable_a = Lanes::gt(aha, Lanes::set1(kTiny));
  F dd = Lanes::select(usable_a, Lanes::div(ag, Lanes::select(usable_a, aha, one)), Lanes::zero());
  F dm = Lanes::zero();
  if (offset) {
    const F product = Lanes::mul(aha, bhb);
    const F det = Lanes::sub(product, Lanes::mul(ahb, ahb));
    const auto usable = Lanes::gt(det, Lanes::add(Lanes::mul(product, Lanes::set1(1e-5f)), Lanes::set1(kTiny)));
    const F safe = Lanes::select(usable, det, one);
    const F dd2 = Lanes::div(Lanes::sub(Lanes::mul(ag, bhb), Lanes::mul(bg, ahb)), safe);
    const F dm2 = Lanes::div(Lanes::sub(Lanes::mul(ag, ahb), Lanes::mul(bg, aha)), safe);
    dd = Lanes::select(usable, dd2, dd);
    dm = Lanes::select(usable, dm2, dm);
  }
  const F new_d = to_half(Lanes::add(d, dd)), new_dmin = offset ? to_half(Lanes::add(dmin, dm)) : dmin;
  dd = Lanes::sub(new_d, d);
  dm = Lanes::sub(new_dmin, dmin);
  const F linear = Lanes::sub(Lanes::mul(dd, ag), Lanes::mul(dm, bg));
  const F quadratic = Lanes::add(Lanes::sub(Lanes::mul(Lanes::mul(dd, dd), aha),
                                            Lanes::mul(Lanes::mul(Lanes::set1(2.0f), Lanes::mul(dd, dm)), ahb)),
                                 Lanes::mul(Lanes::mul(dm, dm), bhb));
  const F energy = Lanes::sub(quadratic, Lanes::add(linear, linear));
  const auto better = Lanes::lt(energy, Lanes::zero());
  if (Lanes::mask_bits(better) == 0) return;
  dd = Lanes::select(better, dd, Lanes::zero());
  dm = Lanes::select(better, dm, Lanes::zero());
  Lanes::store(p.d + 16 * block, Lanes::select(better, new_d, d));
  Lanes::store(p.dmin + 16 * block, Lanes::select(better, new_dmin, dmin));
  for (int j = 0; j < p.n_cols; ++j) {
    const F gj = Lanes::load(g + 16 * j), change = Lanes::sub(Lanes::mul(dd, ha[j]), Lanes::mul(dm, hb[j]));
    Lanes::store(g + 16 * j, Lanes::sub(gj, spread(p, change)));
  }
  for (int s = block * spec.n_sub; s < (block + 1) * spec.n_sub; ++s) {
    const Map m = map_at(p, s);
    for (int j = s * spec.sub_len; j < (s + 1) * spec.sub_len; ++j)
      Lanes::store(p.value + 16 * j, value_of(m, Lanes::load(p.level + 16 * j)));
  }
}

template <bool even>
TSUBU_INLINE void descend(GridPanel& p, float* g, const float* h, size_t ldh, int n_passes, bool codes_only) {
  const GridSpec& spec = *p.spec;
  const int n_subs = p.n_cols / spec.sub_len, n_blocks = p.n_cols / spec.block_len;
  for (int pass = 0; pass < n_passes; ++pass) {
    bool moved = false;
    for (int s = 0; s < n_subs; ++s) {
      moved |= descend_codes<even>(p, s, g, h, ldh);
      if (!codes_only) descend_scale<even>(p, s, g, h, ldh);
    }
    if (!codes_only)
      for (int b = 0; b < n_blocks; ++b) refit_block(p, b, g, h, ldh);
    if (!moved) break;
  }
}

void grid_descend(GridPanel& p, float* g, const float* h, size_t ldh, int n_passes, bool codes_only) {
  if (p.spec->even)
    descend<true>(p, g, h, ldh, n_passes, codes_only);
  else
    descend<false>(p, g, h, ldh, n_passes, codes_only);
}

}  // namespace

void fill_grid_kernels(Kernels& k) {
  k.grid_feedback = grid_feedback;
  k.grid_descend = grid_descend;
}

}  // namespace tsubu::TSUBU_ISA
