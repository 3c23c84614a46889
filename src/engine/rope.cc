#include "engine/rope.h"

#include <algorithm>
#include <cmath>

namespace tsubu {

RopeTable::RopeTable(const RopeSpec& spec) : spec_(spec) {}

void RopeTable::reserve(size_t n_positions, size_t capacity) {
  const size_t n_pairs = spec_.inverse_frequencies.size();
  const bool is_long = !spec_.long_inverse_frequencies.empty() && capacity > spec_.long_from;
  const std::vector<float>& frequencies = is_long ? spec_.long_inverse_frequencies : spec_.inverse_frequencies;
  if (is_long != is_long_) {
    cosines_.clear();
    sines_.clear();
    is_long_ = is_long;
  }
  if (n_pairs == 0 || cosines_.size() >= n_positions * n_pairs) return;
  const size_t first = cosines_.size() / n_pairs;
  cosines_.resize(n_positions * n_pairs);
  sines_.resize(n_positions * n_pairs);
  for (size_t p = first; p < n_positions; ++p) {
    for (size_t i = 0; i < n_pairs; ++i) {
      const double angle = static_cast<double>(p) * static_cast<double>(frequencies[i]);
      cosines_[p * n_pairs + i] = static_cast<float>(std::cos(angle) * static_cast<double>(spec_.magnitude));
      sines_[p * n_pairs + i] = static_cast<float>(std::sin(angle) * static_cast<double>(spec_.magnitude));
    }
  }
}

void RopeTable::rotate(const float* x, float* y, size_t position, size_t n_heads, size_t head_dim) const {
  turn(x, y, position, n_heads, head_dim, 1);
}

void RopeTable::rotate_gradient(const float* gy, float* gx, size_t position, size_t n_heads, size_t head_dim) const {
  turn(gy, gx, position, n_heads, head_dim, -1);
}

void RopeTable::turn(const float* x, float* y, size_t position, size_t n_heads, size_t head_dim, float sense) const {
  const size_t n_pairs = spec_.inverse_frequencies.size();
  const float* cosines = cosines_.data() + position * n_pairs;
  const float* sines = sines_.data() + position * n_pairs;
  const bool interleaved = spec_.style == RopeSpec::Style::kInterleaved;
  const size_t pair_step = interleaved ? 2 : 1, partner = interleaved ? 1 : n_pairs;
  for (size_t h = 0; h < n_heads; ++h, x += head_dim, y += head_dim) {
    for (size_t i = 0; i < n_pairs; ++i) {
      const float a = x[i * pair_step], b = x[i * pair_step + partner], sine = sense * sines[i];
      y[i * pair_step] = a * cosines[i] - b * sine;
      y[i * pair_step + partner] = a * sine + b * cosines[i];
    }
    std::copy(x + 2 * n_pairs, x + head_dim, y + 2 * n_pairs);
  }
}

}  // namespace tsubu
