// Rotary positions: pairs of a head's values turned by position · inverse frequency. Angles, cosines and sines are
// computed in double and kept in tables.
#pragma once

#include <cstddef>
#include <vector>

#include "model/graph.h"

namespace tsubu {

class RopeTable {
 public:
  explicit RopeTable(const RopeSpec& spec);
  // Makes positions [0, n_positions) available. Not thread-safe against rotate(). capacity: positions that the sequence has
  // room for, which some rules go by; other frequencies than before begin anew.
  void reserve(size_t n_positions, size_t capacity);
  // y = x rotated to `position`: n_heads heads of head_dim values each; values past the rotated ones are copied.
  void rotate(const float* x, float* y, size_t position, size_t n_heads, size_t head_dim) const;
  // The gradient of rotate: from ∂loss/∂y to ∂loss/∂x, the transposed rotation with the same magnitude.
  void rotate_gradient(const float* gy, float* gx, size_t position, size_t n_heads, size_t head_dim) const;
  size_t size_bytes() const { return (cosines_.size() + sines_.size()) * sizeof(float); }

 private:
  void turn(const float* x, float* y, size_t position, size_t n_heads, size_t head_dim, float sense) const;
  RopeSpec spec_;
  std::vector<float> cosines_, sines_;  // (position, pair), times the magnitude
  bool is_long_ = false;                // of which frequencies
};

}  // namespace tsubu
