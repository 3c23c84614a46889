// One pass of coordinate descent over rows in a simulated format (see sim_round.h).
#pragma once

#include <vector>

#include "round/curvature.h"
#include "round/sim_rows.h"

namespace tsubu {

class SimDescent {
 public:
  // fixed_scales: scales are the tensor's and stay.
  SimDescent(const SimFormat& format, const SimShape& shape, float tensor_scale, bool fixed_scales,
             const Curvature* curvature)
      : f_(format), shape_(shape), tensor_scale_(tensor_scale), fixed_scales_(fixed_scales), c_(curvature) {}

  // The vectors are work space.
  void pass(SimRows& rows, std::vector<float>& product, std::vector<float>& direction,
            std::vector<float>& change) const;

 private:
  struct Span {  // of one row
    float *level, *value, *g;
    size_t col, n;
  };
  void codes(const SimGrid& grid, const Span& s, size_t begin, size_t end) const;
  void group_scale(SimRows& rows, size_t row, size_t g, const Span& s, float* direction, float* change) const;
  bool other_scale(SimRows& rows, size_t row, size_t g, const Span& s, float* change, float* best) const;
  void group_table(SimRows& rows, size_t row, size_t g, const Span& s, float* direction) const;
  void long_groups(SimRows& rows, size_t g, int entry, std::vector<float>& product,
                   std::vector<float>& direction) const;

  const SimFormat& f_;
  const SimShape& shape_;
  float tensor_scale_;
  bool fixed_scales_;
  const Curvature* c_;
};

}  // namespace tsubu
