// Rounding under a Kronecker-factored curvature: lowers tr(H_O Δ H Δᵀ), Δ = w - ŵ, where H is the form of the inputs (as in
// round.h) and H_O couples the rows by what the model's output feels of an error at each of them. Source of the curvature:
// Tseng et al. 2505.22988 (YAQA). The descent: own.
// Rows are taken in groups, in order; Y = H_O Δ is what a group G knows of the others. With C the group's part of H_O scaled to ones
// on its diagonal, H_O,GG ≤ λ_max(C) diag(H_O,GG) as forms: with m_r = λ H_O,rr row-wise forms bound the whole form from above
// and touch it where they start. λ is the power method's, 2 % up, at most the largest row sum of |C|.
// * Types whose weights have codes of their own, groups of at most sixteen rows: codes move one after the other, rows of a column
//   too, each at its best under the whole form (GridPanel::coupling); scales and minimums of all rows at once, under the bound.
// * The others: the group is moved towards t_r = ŵ_r + Y_r / m_r by the row-wise descent of round.h.
// No step raises the form. Small groups move further at once: λ grows with them.
#pragma once

#include <cstddef>
#include <span>

#include "round/round.h"

namespace tsubu {

struct CoupledOptions {
  int sweeps = 3;          // over all rows
  size_t group_rows = 16;  // moved together: the rows that lie in the lanes
};

// w: (n_rows, curvature.n()) targets; h_out: (n_rows, n_rows), symmetric; out: encoded rows, improved in place.
void refine_coupled(const float* w, size_t n_rows, const TypeInfo& type, const Curvature& curvature,
                    std::span<const float> h_out, const CoupledOptions& options, std::byte* out, ThreadPool& pool);

// Adds a share of the mean diagonal to the diagonal.
void damp_output_form(std::span<float> h_out, double share);

// Σ_rs h_out(r, s) a_r · b_s for rows of a and b, (n_rows, n).
double coupled_product(std::span<const float> h_out, const float* a, const float* b, size_t n_rows, size_t n,
                       ThreadPool& pool);

}  // namespace tsubu
