// Learning rates over the steps of a training: linear warm-up, then a cosine down to a floor.
// Source: Loshchilov and Hutter 1608.03983 (cosine, without restarts).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace tsubu {

struct RateSchedule {
  double warm_up = 0.05;  // share of the steps
  double floor = 0;       // share of the top rate at the end

  // Share of the top rate at step `step` of n_steps, from 0; above 0 at every step unless the floor is 0 at the last.
  double share(uint64_t step, uint64_t n_steps) const {
    const double done = static_cast<double>(step) / static_cast<double>(n_steps);
    if (done < warm_up) return std::min(1.0, (done + 1 / static_cast<double>(n_steps)) / warm_up);
    const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * (done - warm_up) / (1 - warm_up)));
    return floor + (1 - floor) * std::min(1.0, cosine);
  }
};

}  // namespace tsubu
