#include "round/sim_scales.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/half.h"
#include "codec/small_floats.h"

namespace tsubu {
namespace {

constexpr int kHqqSteps = 20;
constexpr double kHqqBeta = 10;
constexpr int kLloydSteps = 40;

struct Range {
  float low = 0, high = 0;  // 0 inside
};
Range range_of(std::span<const float> x) {
  Range r;
  for (float v : x) {
    r.low = std::min(r.low, v);
    r.high = std::max(r.high, v);
  }
  return r;
}

float e8m0_of(double wanted, bool down) {
  if (!(wanted > 0)) return 0;
  const double exponent = down ? std::floor(std::log2(wanted)) : std::round(std::log2(wanted));
  return e8m0_to_f32(static_cast<uint32_t>(std::clamp(exponent, -127.0, 127.0) + 127));
}

float e4m3_of(float x) {  // x ≥ 0; to the nearest, at most 448, at least 2^-9
  uint32_t best = 1;
  for (uint32_t low = 1, high = 0x7e; low <= high;) {  // magnitudes ascend with their codes
    const uint32_t code = (low + high) / 2;
    if (e4m3_to_f32(code) <= x) {
      best = code;
      low = code + 1;
    } else {
      high = code - 1;
    }
  }
  if (best < 0x7e && x - e4m3_to_f32(best) > e4m3_to_f32(best + 1) - x) ++best;
  return e4m3_to_f32(best);
}

SimGroup asymmetric(const SimFormat& f, float low, float high, float tensor_scale) {
  const float top = f.levels.back();
  const float scale = stored_scale(f, high > low ? (high - low) / top : 0, tensor_scale);
  if (scale == 0) return {};
  const float zero = -low / scale;
  return {scale, f.zero == SimZero::kHalf ? stored_half(zero) : std::clamp(std::nearbyint(zero), 0.0f, top)};
}

float weight_at(std::span<const float> weight, size_t i) { return weight.empty() ? 1.0f : weight[i % weight.size()]; }

// Least squares for scale and zero with the codes that g gives.
SimGroup refit(const SimFormat& f, SimGroup g, std::span<const float> x, std::span<const float> weight,
               float tensor_scale) {
  const SimGrid grid(f, g);
  double xq = 0, qq = 0, sum_x = 0, sum_q = 0, sum_w = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double w = static_cast<double>(weight_at(weight, i)), v = static_cast<double>(x[i]);
    const double q = static_cast<double>(grid.level(x[i]) - (f.zero == SimZero::kHalf ? 0 : g.zero));
    xq += w * v * q;
    qq += w * q * q;
    sum_x += w * v;
    sum_q += w * q;
    sum_w += w;
  }
  if (f.zero != SimZero::kHalf) {
    if (qq <= 0) return g;
    const float scale = stored_scale(f, static_cast<float>(xq / qq), tensor_scale);
    return scale == 0 ? g : SimGroup{scale, g.zero};
  }
  const double det = qq * sum_w - sum_q * sum_q;
  if (!(det > 1e-9 * qq * sum_w)) return g;
  const double slope = (xq * sum_w - sum_x * sum_q) / det;
  const float scale = stored_scale(f, static_cast<float>(slope), tensor_scale);
  if (scale == 0) return g;
  return {scale, stored_half(static_cast<float>((sum_q - sum_x / static_cast<double>(scale)) / sum_w))};
}

}  // namespace

float stored_half(float x) { return f16_to_f32(f32_to_f16(std::clamp(x, -65504.0f, 65504.0f))); }

float stored_scale(const SimFormat& f, float wanted, float tensor_scale) {
  if (!std::isfinite(wanted)) return 0;
  switch (f.scale) {
    case SimScale::kF32:
      return wanted;
    case SimScale::kF16:
      return stored_half(wanted);
    case SimScale::kBf16:
      return bf16_to_f32(f32_to_bf16(wanted));
    case SimScale::kE8m0:
      return e8m0_of(static_cast<double>(wanted), false);
    case SimScale::kE4m3:
      return tensor_scale > 0 && wanted > 0 ? tensor_scale * e4m3_of(wanted / tensor_scale) : 0;
  }
  return wanted;
}

float tensor_scale_for(const SimFormat& f, float absmax) {
  return f.tensor_scale ? absmax / (f.nearest_divisor * 448.0f) : 1.0f;
}

SimGroup fit_nearest(const SimFormat& f, std::span<const float> x, float tensor_scale) {
  const Range r = range_of(x);
  if (f.zero != SimZero::kNone) return asymmetric(f, r.low, r.high, tensor_scale);
  const float absmax = std::max(-r.low, r.high);
  // The power of two: floor(log2 absmax) minus the largest level's exponent.
  if (f.scale == SimScale::kE8m0)
    return {e8m0_of(std::ldexp(static_cast<double>(absmax), -std::ilogb(f.levels.back())), true), 0};
  return {stored_scale(f, absmax / f.nearest_divisor, tensor_scale), 0};
}

double fit_error(const SimFormat& f, SimGroup group, std::span<const float> x, std::span<const float> weight) {
  const SimGrid grid(f, group);
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const float e = x[i] - grid.value(grid.level(x[i]));
    sum += static_cast<double>(weight_at(weight, i) * e * e);
  }
  return sum;
}

std::vector<SimGroup> fit_candidates(const SimFormat& f, std::span<const float> x, std::span<const float> weight,
                                     float tensor_scale) {
  const SimGroup plain = fit_nearest(f, x, tensor_scale);
  std::vector<SimGroup> r = {plain};
  const Range range = range_of(x);
  const float absmax = std::max(-range.low, range.high);
  if (absmax == 0) return r;
  const auto add = [&](SimGroup g) {
    if (g.scale == 0) return;
    const auto same = [&](const SimGroup& o) { return o.scale == g.scale && o.zero == g.zero; };
    if (std::none_of(r.begin(), r.end(), same)) r.push_back(g);
  };
  if (f.scale == SimScale::kE8m0) {
    for (int step : {-1, 1, 2}) add({std::ldexp(plain.scale, step), plain.zero});
    return r;
  }
  const double least = f.code_bits <= 2 ? 0.3 : f.code_bits == 3 ? 0.45 : 0.6, step = f.code_bits <= 3 ? 0.05 : 0.025;
  const bool wide = f.code_bits > 4;  // codes are fine enough for the plain range or one nearby
  for (double p = wide ? 0.85 : least; p < 1.13; p += step) {
    const float share = static_cast<float>(p);
    if (f.zero != SimZero::kNone) {
      for (const auto& [a, b] : {std::pair(share, share), std::pair(1.0f, share), std::pair(share, 1.0f)}) {
        const SimGroup g = asymmetric(f, range.low * a, range.high * b, tensor_scale);
        add(g);
        if (g.scale != 0) add(refit(f, g, x, weight, tensor_scale));
      }
      continue;
    }
    for (float sign : {1.0f, -1.0f}) {
      if (sign < 0 && !f.signed_scale()) continue;
      const SimGroup g = {stored_scale(f, sign * share * absmax / f.nearest_divisor, tensor_scale), 0};
      add(g);
      if (g.scale != 0) add(refit(f, g, x, weight, tensor_scale));
    }
  }
  return r;
}

SimGroup fit_search(const SimFormat& f, std::span<const float> x, std::span<const float> weight, float tensor_scale) {
  SimGroup best;
  double least = 0;
  bool first = true;
  for (const SimGroup& g : fit_candidates(f, x, weight, tensor_scale)) {
    const double error = fit_error(f, g, x, weight);
    if (!first && error >= least) continue;
    best = g;
    least = error;
    first = false;
  }
  return best;
}

double lp_error(const SimFormat& f, SimGroup group, std::span<const float> x) {
  const SimGrid grid(f, group);
  double sum = 0;
  for (float v : x) sum += std::pow(std::fabs(static_cast<double>(v - grid.value(grid.level(v)))), kHqqNorm);
  return sum;
}

SimGroup fit_hqq(const SimFormat& f, std::span<const float> x, float tensor_scale) {
  SimGroup g = fit_nearest(f, x, tensor_scale), best = g;
  double least = lp_error(f, g, x);
  for (int step = 0; step < kHqqSteps && g.scale != 0; ++step) {
    const SimGrid grid(f, g);
    const double inverse = 1 / static_cast<double>(g.scale);
    double zero = 0, xq = 0, qq = 0;
    for (float v : x) {
      const float level = grid.level(v);
      const double e = static_cast<double>(v - grid.value(level)) * inverse, size = std::fabs(e);
      const double kept = size > 0 ? std::max(0.0, size - std::pow(size, kHqqNorm - 1) / kHqqBeta) : 0.0;
      const double clean = static_cast<double>(v) * inverse - std::copysign(kept, e);  // (x - e) / scale
      const double q = static_cast<double>(level - g.zero);
      zero += static_cast<double>(level) - clean;
      xq += clean * q;
      qq += q * q;
    }
    SimGroup next = g;
    if (f.zero == SimZero::kNone)
      next.scale =
          qq > 0 ? stored_scale(f, static_cast<float>(xq / qq * static_cast<double>(g.scale)), tensor_scale) : 0;
    else
      next.zero = static_cast<float>(zero / static_cast<double>(x.size()));
    if (f.zero == SimZero::kHalf) next.zero = stored_half(next.zero);
    if (f.zero == SimZero::kInteger) next.zero = std::clamp(std::nearbyint(next.zero), 0.0f, f.levels.back());
    if (next.scale == 0 || (next.scale == g.scale && next.zero == g.zero)) break;
    g = next;
    if (const double error = lp_error(f, g, x); error < least) {
      least = error;
      best = g;
    }
  }
  return best;
}

namespace {

struct Sorted {
  std::vector<float> x;
  std::vector<double> weight, sum_w, sum_wx;  // sums before each value

  Sorted(std::span<const float> values, std::span<const float> weights) {
    std::vector<uint32_t> order(values.size());
    std::iota(order.begin(), order.end(), 0u);
    std::sort(order.begin(), order.end(),
              [&](uint32_t a, uint32_t b) { return values[a] != values[b] ? values[a] < values[b] : a < b; });
    sum_w.push_back(0);
    sum_wx.push_back(0);
    for (uint32_t i : order) {
      const double w = std::max(1e-30, static_cast<double>(weight_at(weights, i)));
      x.push_back(values[i]);
      weight.push_back(w);
      sum_w.push_back(sum_w.back() + w);
      sum_wx.push_back(sum_wx.back() + w * static_cast<double>(values[i]));
    }
  }
  // First value that is nearer to the next center than to this one.
  size_t border(float center, float next) const {
    return static_cast<size_t>(std::upper_bound(x.begin(), x.end(), 0.5f * (center + next)) - x.begin());
  }
};

double lloyd(const Sorted& s, std::vector<float>& table) {
  const size_t k = table.size();
  for (int step = 0; step < kLloydSteps; ++step) {
    std::vector<float> next = table;
    size_t begin = 0;
    for (size_t c = 0; c < k; ++c) {
      const size_t end = c + 1 < k ? std::max(begin, s.border(table[c], table[c + 1])) : s.x.size();
      if (end > begin)
        next[c] = static_cast<float>((s.sum_wx[end] - s.sum_wx[begin]) / (s.sum_w[end] - s.sum_w[begin]));
      begin = end;
    }
    std::sort(next.begin(), next.end());
    if (next == table) break;
    table = next;
  }
  for (float& v : table) v = stored_half(v);
  const SimGrid grid(table);
  double error = 0;
  for (size_t i = 0; i < s.x.size(); ++i) {
    const double e = static_cast<double>(s.x[i] - grid.value(grid.level(s.x[i])));
    error += s.weight[i] * e * e;
  }
  return error;
}

}  // namespace

std::vector<float> fit_table(const SimFormat& f, std::span<const float> x, std::span<const float> weight) {
  const Sorted s(x, weight);
  const size_t k = size_t{1} << f.code_bits;
  std::vector<float> by_quantile(k), by_step(k);
  for (size_t c = 0; c < k; ++c) {
    const double share = (static_cast<double>(c) + 0.5) / static_cast<double>(k);
    const auto at = std::upper_bound(s.sum_w.begin(), s.sum_w.end(), share * s.sum_w.back()) - s.sum_w.begin();
    by_quantile[c] = s.x[std::min(s.x.size() - 1, static_cast<size_t>(std::max<ptrdiff_t>(1, at) - 1))];
    by_step[c] = s.x.front() + static_cast<float>(share) * (s.x.back() - s.x.front());
  }
  const double quantile_error = lloyd(s, by_quantile), step_error = lloyd(s, by_step);
  return quantile_error <= step_error ? by_quantile : by_step;
}

DoubleQuantized double_quantize(std::vector<SimGroup>& groups) {
  std::vector<float> scales;
  for (const SimGroup& g : groups) scales.push_back(g.scale);
  DoubleQuantized d = double_quantize_scales(scales);
  for (size_t i = 0; i < groups.size(); ++i) groups[i].scale = d.scale(i);
  return d;
}

}  // namespace tsubu
