// Sixteen rows of a span of columns while they are rounded: what round.cc drives, whatever form a type's blocks have.
// Arrays are of (column, row): element j of row l at [16 j + l].
#pragma once

#include <cstddef>
#include <memory>

#include "codec/type_info.h"
#include "kernel/grid_panel.h"
#include "round/curvature.h"

namespace tsubu {

class Span {
 public:
  virtual ~Span() = default;

  // The span's columns, a multiple of the type's block and at most kSpan.
  void place(size_t col, size_t n_cols) {
    col_ = col;
    n_cols_ = n_cols;
  }
  // Rounds weights w at their targets t, which take in what earlier columns left; t is overwritten. Only `lanes` rows
  // are meant. choose_scales: integer scales again at each sub-block's entry.
  virtual void feed(const float* w, float* t, const Curvature& c, size_t lanes, bool choose_scales) = 0;
  // The span's blocks of one row, from and to their bytes; load_zeros for rows that are not there.
  virtual void load(size_t lane, const std::byte* blocks) = 0;
  virtual void load_zeros(size_t lane) = 0;
  virtual void store(size_t lane, std::byte* blocks) = 0;
  // From now on descend() moves rows that share one form (GridPanel::coupling, which must stay; nullptr: rows that do not).
  // False: this span cannot.
  virtual bool couple(const float* /*coupling*/, float /*bound*/) { return false; }
  // One pass of coordinate descent; g = residual · H of the span, kept up to date.
  virtual void descend(float* g, const Curvature& c, bool codes_only) = 0;
  virtual const float* values() const = 0;

 protected:
  size_t col_ = 0, n_cols_ = 0;
};

// nullptr where the type has no form that the methods know.
std::unique_ptr<Span> make_span(const TypeInfo& type);
// The forms; each nullptr where it is not the type's.
std::unique_ptr<Span> make_grid_span(const TypeInfo& type);
std::unique_ptr<Span> make_lattice_span(const TypeInfo& type);

}  // namespace tsubu
