// Rounding on lattices (IQ1, IQ2, IQ3) against a quadratic form: sixteen rows in the lanes, one grid point of 4 or 8
// columns (a unit B) after another.
//   lattice_feedback  LDLQ over units: with H = M D Mᵀ, what earlier columns leave is p = Σ r_i M_iB, and the price of
//                     q_B is (z - q) A (z - q)ᵀ with A = M_BB D M_BBᵀ and z = w + p M_BB⁻¹: later columns are free.
//   lattice_descend   a unit's price while all else stays: (z - q) H_BB (z - q)ᵀ, z = q_old + g H_BB⁻¹.
// Both are one search: the point that is nearest in a norm with mixed terms, exactly, for given signs. Signs are those of
// z; where the number of minus signs must be even and is not, the cheapest sign is turned. Source of LDLQ: Chee et al.
// 2307.13304; the unit's norm and its search: own.
#include "codec/codecs.h"
#include "kernel/generic/descent.h"
#include "kernel/kernels.h"
#include "kernel/lattice_panel.h"

namespace tsubu::TSUBU_ISA {

void fill_lattice_kernels(Kernels& k);

namespace {

// A point's coordinates fall into four parts of one or two coordinates: parts 0 and 1 are the first half of its code,
// 2 and 3 the second.
template <class C>
struct Unit {
  using Form = typename C::Lattice;
  using Index = typename Form::Index;
  using Scales = typename C::Scales;
  static constexpr int kDims = Index::kDims;
  static constexpr int kWide = kDims / 4;
  static constexpr int kPart = kWide == 2 ? Index::kLevels * Index::kLevels : Index::kLevels;  // codes of a part
  static constexpr bool kShift = Form::kSigns == LatticeSigns::kShift;
  static constexpr bool kEven = Form::kSigns == LatticeSigns::kEven;
  static constexpr int kSubLen = Scales::kSubLen;
  static constexpr int kUnits = kSubLen / kDims;  // of a sub-block
  static constexpr int kSubs = kLatticeBlock / kSubLen;
  static constexpr bool kOwnShift = kShift && Scales::kShiftLen == kLatticeGroup;  // of each group
};

// A symmetric norm of a unit, the same for all rows.
template <class C>
struct Norm {
  float a[Unit<C>::kDims][Unit<C>::kDims];
};

template <class C>
struct Rounded {
  F energy;
  I point, minus;
  F shift;
  F value[Unit<C>::kDims];
};

// The nearest point to z in the norm, its signs given: step is ±scale.
template <class C>
TSUBU_OUTLINE void nearest_in_norm(const Norm<C>& norm, const F* z, const F* step, F shift, F& least, I& point) {
  using U = Unit<C>;
  constexpr int kWide = U::kWide, kPart = U::kPart, kLevels = U::Index::kLevels;
  const auto& index = U::Form::points();
  F e[4][kPart][kWide];
  F own[4][kPart];
  const F two = Lanes::set1(2.0f);
  for (int part = 0; part < 4; ++part)
    for (int i = 0, n = 1; i < kWide; ++i, n *= kLevels) {
      const int dim = part * kWide + i;
      for (int l = 0; l < kLevels; ++l) {
        F level = Lanes::set1(index.level[l]);
        if constexpr (U::kShift) level = Lanes::add(level, shift);
        const F error = Lanes::sub(Lanes::mul(step[dim], level), z[dim]);
        for (int code = 0; code < kPart; ++code)
          if (code / n % kLevels == l) e[part][code][i] = error;
      }
    }
  // Products of part `from` with the rows of part `to`.
  const auto times = [&](int from, int to, const F* error, F* out) {
    for (int j = 0; j < kWide; ++j) {
      F sum = Lanes::mul(error[0], Lanes::set1(norm.a[from * kWide][to * kWide + j]));
      for (int i = 1; i < kWide; ++i)
        sum = Lanes::fma(error[i], Lanes::set1(norm.a[from * kWide + i][to * kWide + j]), sum);
      out[j] = sum;
    }
  };
  const auto dot = [](const F* a, const F* b, F sum) {
    for (int i = 0; i < kWide; ++i) sum = Lanes::fma(a[i], b[i], sum);
    return sum;
  };
  for (int part = 0; part < 4; ++part)
    for (int code = 0; code < kPart; ++code) {
      F product[kWide];
      times(part, part, e[part][code], product);
      own[part][code] = dot(e[part][code], product, Lanes::zero());
    }
  F half[2][U::Index::kHalfCodes];
  for (int h = 0; h < 2; ++h)
    for (int high = 0; high < kPart; ++high) {
      F mixed[kWide];
      times(2 * h + 1, 2 * h, e[2 * h + 1][high], mixed);
      for (int i = 0; i < kWide; ++i) mixed[i] = Lanes::mul(mixed[i], two);
      for (int low = 0; low < kPart; ++low)
        half[h][low + kPart * high] =
            dot(e[2 * h][low], mixed, Lanes::add(own[2 * h][low], own[2 * h + 1][high]));
    }
  // What a code of part 2 or 3 puts on the coordinates of parts 0 and 1.
  F pull[2][kPart][2][kWide];
  for (int part = 0; part < 2; ++part)
    for (int code = 0; code < kPart; ++code)
      for (int to = 0; to < 2; ++to) {
        times(2 + part, to, e[2 + part][code], pull[part][code][to]);
        for (int i = 0; i < kWide; ++i) pull[part][code][to][i] = Lanes::mul(pull[part][code][to][i], two);
      }
  least = Lanes::set1(3e38f);
  point = Lanes::set1_i(0);
  F mixed[2][kPart];
  for (int h = 0, k = 0; h < U::Index::kHalfCodes; ++h) {
    const int end = index.start[h + 1];
    if (k == end) continue;
    for (int to = 0; to < 2; ++to) {
      F sum[kWide];
      for (int i = 0; i < kWide; ++i) sum[i] = Lanes::add(pull[0][h % kPart][to][i], pull[1][h / kPart][to][i]);
      for (int code = 0; code < kPart; ++code)
        mixed[to][code] = dot(e[to][code], sum, to == 0 ? half[1][h] : Lanes::zero());
    }
    for (; k < end; ++k) {
      const int first = index.first[k], high = first / kPart, low = first - high * kPart;
      const F energy = Lanes::add(half[0][first], Lanes::add(mixed[0][low], mixed[1][high]));
      const auto better = Lanes::lt(energy, least);
      least = Lanes::select(better, energy, least);
      point = Lanes::select(better, Lanes::set1_i(k), point);
    }
  }
}

// What a wrong sign costs at the least, were the coordinate alone.
TSUBU_INLINE F turning_cost(F z, float weight, F lowest) {
  const F size = Lanes::abs(z);
  const F wrong = Lanes::add(size, lowest);
  const F right = Lanes::min(Lanes::sub(size, lowest), Lanes::zero());
  return Lanes::mul(Lanes::sub(Lanes::mul(wrong, wrong), Lanes::mul(right, right)), Lanes::set1(weight));
}

TSUBU_INLINE F sign_of(F z) {
  return Lanes::select(Lanes::lt(z, Lanes::zero()), Lanes::set1(-1.0f), Lanes::set1(1.0f));
}

// -1 where the product of signs is to change and +1 elsewhere: turns the cheapest of them there.
TSUBU_INLINE void turn_cheapest(F* sign, const F* cost, int n, F turn) {
  F least = cost[0];
  for (int i = 1; i < n; ++i) least = Lanes::min(least, cost[i]);
  F open = turn;  // becomes +1 once a sign was turned
  for (int i = 0; i < n; ++i) {
    const auto here = Lanes::gt(cost[i], least);
    const F factor = Lanes::select(here, Lanes::set1(1.0f), open);
    sign[i] = Lanes::mul(sign[i], factor);
    open = Lanes::select(here, open, Lanes::set1(1.0f));
  }
}

template <class C>
TSUBU_INLINE F product_of(const F* sign, int n = Unit<C>::kDims) {
  F product = sign[0];
  for (int i = 1; i < n; ++i) product = Lanes::mul(product, sign[i]);
  return product;
}

// Rounds a unit. product: what its signs must multiply to, where that matters.
template <class C>
TSUBU_INLINE void round_signed(const Norm<C>& norm, const F* z, F scale, F shift, F product, Rounded<C>& out) {
  using U = Unit<C>;
  const auto& index = U::Form::points();
  F sign[U::kDims], step[U::kDims];
  I minus = Lanes::set1_i(0);
  for (int i = 0; i < U::kDims; ++i) sign[i] = U::kShift ? Lanes::set1(1.0f) : sign_of(z[i]);
  if constexpr (U::kEven) {
    F cost[U::kDims];
    const F lowest = Lanes::mul(scale, Lanes::set1(index.level[0]));
    for (int i = 0; i < U::kDims; ++i) cost[i] = turning_cost(z[i], norm.a[i][i], lowest);
    turn_cheapest(sign, cost, U::kDims, Lanes::mul(product_of<C>(sign), product));
  }
  for (int i = 0; i < U::kDims; ++i) {
    step[i] = Lanes::mul(sign[i], scale);
    minus = Lanes::bit_or(minus, Lanes::select(Lanes::lt(sign[i], Lanes::zero()), Lanes::set1_i(1 << i),
                                               Lanes::set1_i(0)));
  }
  nearest_in_norm<C>(norm, z, step, shift, out.energy, out.point);
  out.minus = minus;
  out.shift = shift;
}

// The values of a point as the decoder computes them.
template <class C>
TSUBU_INLINE void values_of(I point, I minus, F scale, F shift, F* value) {
  using U = Unit<C>;
  int32_t points[kLanes], signs[kLanes];
  Lanes::store_i(points, point);
  Lanes::store_i(signs, minus);
  float level[U::kDims][kLanes];
  for (int l = 0; l < kLanes; ++l) {
    const uint64_t bytes = U::Form::point_levels(static_cast<uint32_t>(points[l]));
    for (int i = 0; i < U::kDims; ++i) {
      const float v = static_cast<float>(static_cast<int8_t>(bytes >> (8 * i)));
      level[i][l] = signs[l] >> i & 1 ? -v : v;
    }
  }
  for (int i = 0; i < U::kDims; ++i) {
    F v = Lanes::load(level[i]);
    if constexpr (U::kShift) v = Lanes::add(v, shift);
    value[i] = Lanes::mul(scale, v);
  }
}

template <class C>
TSUBU_INLINE void round_unit(const Norm<C>& norm, const F* z, F scale, F shift, F product, Rounded<C>& out) {
  round_signed<C>(norm, z, scale, shift, product, out);
  if constexpr (Unit<C>::kOwnShift) {
    Rounded<C> other;
    round_signed<C>(norm, z, scale, Lanes::neg(shift), product, other);
    const auto better = Lanes::lt(other.energy, out.energy);
    out.energy = Lanes::select(better, other.energy, out.energy);
    out.point = Lanes::select(better, other.point, out.point);
    out.shift = Lanes::select(better, other.shift, out.shift);
  }
  values_of<C>(out.point, out.minus, scale, out.shift, out.value);
}

// The factor of the levels under integer scale k: d · unit(k).
template <class C>
TSUBU_INLINE F factor_of(F d, F k) {
  const float base = C::Scales::unit(0), slope = C::Scales::unit(1) - C::Scales::unit(0);
  return Lanes::mul(d, Lanes::add(Lanes::set1(base), Lanes::mul(Lanes::set1(slope), k)));
}

template <class C>
TSUBU_INLINE F moved_scale(F k, int move) {
  const F sum = Lanes::add(k, Lanes::set1(static_cast<float>(move)));
  return Lanes::max(Lanes::min(sum, Lanes::set1(static_cast<float>(C::Scales::kMax))), Lanes::zero());
}

// A sub-block under one scale.
template <class C>
struct SubRounding {
  F energy;
  Rounded<C> unit[Unit<C>::kUnits];
};

template <class C>
TSUBU_INLINE void take(Lanes::M better, const SubRounding<C>& other, F scale, SubRounding<C>& best, F& best_scale) {
  best.energy = Lanes::select(better, other.energy, best.energy);
  best_scale = Lanes::select(better, scale, best_scale);
  for (int u = 0; u < Unit<C>::kUnits; ++u) {
    Rounded<C>& a = best.unit[u];
    const Rounded<C>& b = other.unit[u];
    a.point = Lanes::select(better, b.point, a.point);
    a.minus = Lanes::select(better, b.minus, a.minus);
    a.shift = Lanes::select(better, b.shift, a.shift);
    for (int i = 0; i < Unit<C>::kDims; ++i) a.value[i] = Lanes::select(better, b.value[i], a.value[i]);
  }
}

// Feedback through a sub-block. w, t: of its columns; m: its diagonal block.
template <class C>
TSUBU_OUTLINE void feed_sub(const Norm<C>* norms, const float* w, const float* t, const float* m, size_t ldm, F factor,
                            F shift, SubRounding<C>& out) {
  using U = Unit<C>;
  constexpr int kDims = U::kDims;
  F target[U::kSubLen];
  for (int j = 0; j < U::kSubLen; ++j) target[j] = Lanes::load(t + 16 * j);
  out.energy = Lanes::zero();
  F product = Lanes::set1(1.0f);
  for (int u = 0; u < U::kUnits; ++u) {
    const int first = u * kDims;
    const float* block = m + static_cast<size_t>(first) * ldm + first;
    F z[kDims], y[kDims];
    for (int j = 0; j < kDims; ++j) {
      const F own = Lanes::load(w + 16 * (first + j));
      y[j] = Lanes::sub(target[first + j], own);
      for (int i = 0; i < j; ++i)
        y[j] = Lanes::fma(Lanes::neg(y[i]), Lanes::set1(block[static_cast<size_t>(i) * ldm + j]), y[j]);
      z[j] = Lanes::add(own, y[j]);
    }
    if constexpr (U::kEven && kDims == 4) {  // the cheapest sign of both units decides which of them is odd
      if (u % 2 == 0) {
        F sign[8], cost[8];
        const F lowest = Lanes::mul(factor, Lanes::set1(U::Form::points().level[0]));
        for (int i = 0; i < 8; ++i) {
          const F x = i < 4 ? z[i] : target[first + i];
          sign[i] = sign_of(x);
          cost[i] = turning_cost(x, norms[u + i / 4].a[i % 4][i % 4], lowest);
        }
        turn_cheapest(sign, cost, 8, product_of<C>(sign, 8));
        product = product_of<C>(sign, 4);
      }
    }
    Rounded<C>& r = out.unit[u];
    round_unit<C>(norms[u], z, factor, shift, product, r);
    out.energy = Lanes::add(out.energy, r.energy);
    for (int i = 0; i < kDims; ++i) {
      const F residual = Lanes::sub(Lanes::load(w + 16 * (first + i)), r.value[i]);
      const float* row = m + static_cast<size_t>(first + i) * ldm;
      for (int k = first + kDims; k < U::kSubLen; ++k)
        target[k] = Lanes::fma(residual, Lanes::set1(row[k]), target[k]);
    }
  }
}

template <class C>
TSUBU_INLINE void store_sub(LatticePanel& p, int s, F scale, const SubRounding<C>& sub) {
  using U = Unit<C>;
  Lanes::store(p.scale + 16 * s, scale);
  for (int u = 0; u < U::kUnits; ++u) {
    const int unit = s * U::kUnits + u;
    Lanes::store_i(p.point + 16 * unit, sub.unit[u].point);
    Lanes::store_i(p.minus + 16 * unit, sub.unit[u].minus);
    Lanes::store(p.shift + 16 * (unit * U::kDims / kLatticeGroup), sub.unit[u].shift);
    for (int i = 0; i < U::kDims; ++i) Lanes::store(p.value + 16 * (unit * U::kDims + i), sub.unit[u].value[i]);
  }
}

constexpr int kFeedbackMoves[] = {0, -1, 1, -2, 2, -3, 3};
constexpr int kDescentMoves[] = {0, -1, 1, -2, 2};  // the first only with the other shift
constexpr int kDescentTries = 5;

template <class C>
void feedback(LatticePanel& p, const float* w, float* t, const float* m, size_t ldm, const float* weight, bool choose) {
  using U = Unit<C>;
  constexpr int kDims = U::kDims;
  constexpr int kShifts = U::kShift && !U::kOwnShift ? 2 : 1;
  const F d = Lanes::load(p.d);
  for (int s = 0; s < U::kSubs; ++s) {
    const int first = s * U::kSubLen;
    const float* block = m + static_cast<size_t>(first) * ldm + first;
    Norm<C> norms[U::kUnits];
    for (int u = 0; u < U::kUnits; ++u)
      for (int i = 0; i < kDims; ++i)
        for (int j = i; j < kDims; ++j) {
          const float* mi = block + static_cast<size_t>(u * kDims + i) * ldm + u * kDims;
          const float* mj = block + static_cast<size_t>(u * kDims + j) * ldm + u * kDims;
          float sum = 0;
          for (int k = j; k < kDims; ++k)
            sum += weight[first + u * kDims + k] * (k == i ? 1.0f : mi[k]) * (k == j ? 1.0f : mj[k]);
          norms[u].a[i][j] = norms[u].a[j][i] = sum;
        }
    const F start = Lanes::load(p.scale + 16 * s);
    const F start_shift = Lanes::load(p.shift + 16 * (first / kLatticeGroup));
    SubRounding<C> best, tried;
    F best_scale = start;
    bool any = false;
    for (const int move : kFeedbackMoves) {
      const F scale = moved_scale<C>(start, move);
      for (int side = 0; side < kShifts; ++side) {
        feed_sub<C>(norms, w + 16 * first, t + 16 * first, block, ldm, factor_of<C>(d, scale),
                    side == 0 ? start_shift : Lanes::neg(start_shift), any ? tried : best);
        if (any) take<C>(Lanes::lt(tried.energy, best.energy), tried, scale, best, best_scale);
        any = true;
        if (!choose) break;
      }
      if (!choose) break;
    }
    store_sub<C>(p, s, best_scale, best);
    for (int u = 0; u < U::kUnits; ++u) {
      F residual[kDims];
      for (int i = 0; i < kDims; ++i)
        residual[i] = Lanes::sub(Lanes::load(w + 16 * (first + u * kDims + i)), best.unit[u].value[i]);
      for (int k = first + U::kSubLen; k < kSpan; ++k) {
        F sum = Lanes::load(t + 16 * k);
        for (int i = 0; i < kDims; ++i)
          sum = Lanes::fma(residual[i], Lanes::set1(m[static_cast<size_t>(first + u * kDims + i) * ldm + k]), sum);
        Lanes::store(t + 16 * k, sum);
      }
    }
  }
}

// The inverse of a positive definite matrix by Gauss-Jordan steps.
template <int n>
TSUBU_INLINE void invert(const float (&a)[n][n], float (&out)[n][n]) {
  double x[n][n];
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) x[i][j] = static_cast<double>(a[i][j]);
  for (int k = 0; k < n; ++k) {
    const double pivot = 1.0 / x[k][k];
    x[k][k] = 1.0;
    for (int j = 0; j < n; ++j) x[k][j] *= pivot;
    for (int i = 0; i < n; ++i) {
      if (i == k) continue;
      const double factor = x[i][k];
      x[i][k] = 0.0;
      for (int j = 0; j < n; ++j) x[i][j] -= factor * x[k][j];
    }
  }
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) out[i][j] = static_cast<float>(x[i][j]);
}

// A unit in the descent.
template <class C>
struct Place {
  Norm<C> h;
  float inverse[Unit<C>::kDims][Unit<C>::kDims];
};

// Rounds unit `unit` where the gradient is g (of its columns). change: of its values; the change of the form is
// returned.
template <class C>
TSUBU_INLINE F descend_unit(const LatticePanel& p, int unit, const Place<C>& place, const F* g, F factor, F shift,
                            Rounded<C>& out, F* change) {
  using U = Unit<C>;
  constexpr int kDims = U::kDims;
  F z[kDims], old[kDims];
  for (int j = 0; j < kDims; ++j) {
    old[j] = Lanes::load(p.value + 16 * (unit * kDims + j));
    F sum = old[j];
    for (int i = 0; i < kDims; ++i) sum = Lanes::fma(g[i], Lanes::set1(place.inverse[i][j]), sum);
    z[j] = sum;
  }
  F product = Lanes::set1(1.0f);
  if constexpr (U::kEven && kDims == 4) {  // stays what it was
    const I bits = Lanes::load_i(p.minus + 16 * unit), one = Lanes::set1_i(1);
    I odd = bits;
    for (int i = 1; i < kDims; ++i) odd = Lanes::add(odd, Lanes::shift_right(bits, i));
    odd = Lanes::bit_and(odd, one);
    product = Lanes::to_float(Lanes::sub(one, Lanes::add(odd, odd)));
  }
  round_unit<C>(place.h, z, factor, shift, product, out);
  F energy = Lanes::zero();
  for (int i = 0; i < kDims; ++i) change[i] = Lanes::sub(out.value[i], old[i]);
  for (int i = 0; i < kDims; ++i) {
    F sum = Lanes::mul(Lanes::set1(-2.0f), g[i]);
    for (int j = 0; j < kDims; ++j) sum = Lanes::fma(change[j], Lanes::set1(place.h.a[i][j]), sum);
    energy = Lanes::fma(change[i], sum, energy);
  }
  return energy;
}

// d by least squares.
template <class C>
TSUBU_INLINE void refit(LatticePanel& p, float* g, const float* h, size_t ldh) {
  using U = Unit<C>;
  F product[kSpan], ag = Lanes::zero(), aha = Lanes::zero();  // of the values themselves: d times what is scaled
  for (int j = 0; j < kSpan; ++j) {
    const float* row = h + static_cast<size_t>(j) * ldh;
    F sum = Lanes::zero();
    for (int k = 0; k < kSpan; ++k) sum = Lanes::fma(Lanes::load(p.value + 16 * k), Lanes::set1(row[k]), sum);
    product[j] = sum;
    const F value = Lanes::load(p.value + 16 * j);
    ag = Lanes::fma(value, Lanes::load(g + 16 * j), ag);
    aha = Lanes::fma(value, sum, aha);
  }
  const F d = Lanes::load(p.d), one = Lanes::set1(1.0f);
  const auto usable = Lanes::gt(aha, Lanes::set1(kTiny));
  const F share = Lanes::select(usable, Lanes::div(ag, Lanes::select(usable, aha, one)), Lanes::zero());
  const F fitted = to_half(Lanes::fma(d, share, d));
  const auto divides = Lanes::gt(Lanes::abs(d), Lanes::set1(kTiny));
  const F change = Lanes::select(divides, Lanes::div(Lanes::sub(fitted, d), Lanes::select(divides, d, one)),
                                 Lanes::zero());
  const F energy = Lanes::mul(change, Lanes::sub(Lanes::mul(change, aha), Lanes::add(ag, ag)));
  const auto better = Lanes::lt(energy, Lanes::zero());
  if (Lanes::mask_bits(better) == 0) return;
  const F taken = Lanes::select(better, change, Lanes::zero());
  const F new_d = Lanes::select(better, fitted, d);
  Lanes::store(p.d, new_d);
  for (int j = 0; j < kSpan; ++j)
    Lanes::store(g + 16 * j, Lanes::fma(Lanes::neg(taken), product[j], Lanes::load(g + 16 * j)));
  for (int unit = 0; unit < kSpan / U::kDims; ++unit) {
    F value[U::kDims];
    const F factor = factor_of<C>(new_d, Lanes::load(p.scale + 16 * (unit / U::kUnits)));
    values_of<C>(Lanes::load_i(p.point + 16 * unit), Lanes::load_i(p.minus + 16 * unit), factor,
                 Lanes::load(p.shift + 16 * (unit * U::kDims / kLatticeGroup)), value);
    for (int i = 0; i < U::kDims; ++i) Lanes::store(p.value + 16 * (unit * U::kDims + i), value[i]);
  }
}

template <class C>
void descend(LatticePanel& p, float* g, const float* h, size_t ldh, bool codes_only) {
  using U = Unit<C>;
  constexpr int kDims = U::kDims;
  constexpr int kShifts = U::kShift && !U::kOwnShift ? 2 : 1;
  for (int s = 0; s < U::kSubs; ++s) {
    const int first = s * U::kSubLen;
    const float* block = h + static_cast<size_t>(first) * ldh + first;
    Place<C> places[U::kUnits];
    for (int u = 0; u < U::kUnits; ++u) {
      for (int i = 0; i < kDims; ++i)
        for (int j = 0; j < kDims; ++j)
          places[u].h.a[i][j] = block[static_cast<size_t>(u * kDims + i) * ldh + u * kDims + j];
      invert(places[u].h.a, places[u].inverse);
    }
    const F d = Lanes::load(p.d), scale = Lanes::load(p.scale + 16 * s);
    const auto store_unit = [&](int u, Lanes::M better, const Rounded<C>& r) {
      const int unit = s * U::kUnits + u, group = unit * kDims / kLatticeGroup;
      Lanes::store_i(p.point + 16 * unit, Lanes::select(better, r.point, Lanes::load_i(p.point + 16 * unit)));
      Lanes::store_i(p.minus + 16 * unit, Lanes::select(better, r.minus, Lanes::load_i(p.minus + 16 * unit)));
      Lanes::store(p.shift + 16 * group, Lanes::select(better, r.shift, Lanes::load(p.shift + 16 * group)));
      for (int i = 0; i < kDims; ++i) {
        float* value = p.value + 16 * (unit * kDims + i);
        Lanes::store(value, Lanes::select(better, r.value[i], Lanes::load(value)));
      }
    };
    for (int u = 0; u < U::kUnits; ++u) {
      const int col = first + u * kDims;
      F own[kDims], change[kDims];
      for (int i = 0; i < kDims; ++i) own[i] = Lanes::load(g + 16 * (col + i));
      Rounded<C> r;
      const F shift = Lanes::load(p.shift + 16 * (col / kLatticeGroup));
      const auto better = Lanes::lt(
          descend_unit<C>(p, s * U::kUnits + u, places[u], own, factor_of<C>(d, scale), shift, r, change),
          Lanes::zero());
      if (Lanes::mask_bits(better) == 0) continue;
      for (int i = 0; i < kDims; ++i) change[i] = Lanes::select(better, change[i], Lanes::zero());
      store_unit(u, better, r);
      apply_change(g, kSpan, h, ldh, col, kDims, change);
    }
    if (codes_only) continue;

    F best_scale = scale, best_change[U::kSubLen];
    SubRounding<C> best, tried;
    best.energy = Lanes::zero();
    bool any = false;
    const F old_shift = Lanes::load(p.shift + 16 * (first / kLatticeGroup));
    for (int side = 0; side < kShifts; ++side)
      for (int move = side == 0 ? 1 : 0; move < kDescentTries; ++move) {
        const F sc = moved_scale<C>(scale, kDescentMoves[move]);
        F own[U::kSubLen], change[U::kSubLen];
        for (int j = 0; j < U::kSubLen; ++j) own[j] = Lanes::load(g + 16 * (first + j));
        tried.energy = Lanes::zero();
        for (int u = 0; u < U::kUnits; ++u) {
          const F group_shift = Lanes::load(p.shift + 16 * ((first + u * kDims) / kLatticeGroup));
          const F energy = descend_unit<C>(p, s * U::kUnits + u, places[u], own + u * kDims, factor_of<C>(d, sc),
                                           side == 0 ? group_shift : Lanes::neg(old_shift), tried.unit[u],
                                           change + u * kDims);
          tried.energy = Lanes::add(tried.energy, energy);
          for (int k = (u + 1) * kDims; k < U::kSubLen; ++k)
            for (int i = u * kDims; i < (u + 1) * kDims; ++i)
              own[k] = Lanes::fma(Lanes::neg(change[i]), Lanes::set1(block[static_cast<size_t>(i) * ldh + k]), own[k]);
        }
        const auto better = Lanes::lt(tried.energy, best.energy);
        if (Lanes::mask_bits(better) == 0) continue;
        for (int j = 0; j < U::kSubLen; ++j)
          best_change[j] = Lanes::select(better, change[j], any ? best_change[j] : Lanes::zero());
        if (!any)
          for (int u = 0; u < U::kUnits; ++u) best.unit[u] = tried.unit[u];  // lanes that do not move never use it
        any = true;
        take<C>(better, tried, sc, best, best_scale);
      }
    if (!any) continue;
    const auto moved = Lanes::lt(best.energy, Lanes::zero());
    Lanes::store(p.scale + 16 * s, best_scale);
    for (int u = 0; u < U::kUnits; ++u) store_unit(u, moved, best.unit[u]);
    apply_change(g, kSpan, h, ldh, first, U::kSubLen, best_change);
  }
  if (!codes_only) refit<C>(p, g, h, ldh);
}

template <class C>
void fill_codec(Kernels& kernels, size_t index) {
  if constexpr (HasLattice<C>) {
    kernels.lattice_feedback[index] = feedback<C>;
    kernels.lattice_descend[index] = descend<C>;
  }
}

template <class... Codecs>
void fill_list(Kernels& kernels, TypeList<Codecs...>) {
  size_t index = 0;
  (fill_codec<Codecs>(kernels, index++), ...);
}

}  // namespace

void fill_lattice_kernels(Kernels& kernels) { fill_list(kernels, CodecList{}); }

}  // namespace tsubu::TSUBU_ISA
