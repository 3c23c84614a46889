#include "tune/loftq.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/draws.h"
#include "base/error.h"
#include "base/progress.h"
#include "gradient/linear_gradient.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr size_t kExtra = 8;       // directions beyond the rank
constexpr int kIterations = 4;     // of the subspace: the error's spectrum is flat
constexpr int kJacobiSweeps = 30;  // of a small symmetric matrix: far more than it takes
constexpr size_t kTile = 64;

// y (n, k) = x (n, m) · zᵀ with z (k, m): all rows are dot products of fixed order.
void products(const float* x, size_t ldx, size_t n, const float* z, size_t ldz, size_t k, size_t m, float* y, ThreadPool& pool) {
  pool.parallel_for((n + kTile - 1) / kTile, [&](size_t item, int) {
    const size_t first = item * kTile, count = std::min(kTile, n - first);
    kernels().gemm_nt(z, ldz, x + first * ldx, ldx, y + first * k, k, k, count, m);
  });
}

// The rows of q (k, n) become orthonormal: modified Gram-Schmidt, twice, in double. Rows that vanish become zero.
void orthonormalize(std::vector<float>& q, size_t k, size_t n) {
  std::vector<double> row(n);
  for (size_t i = 0; i < k; ++i) {
    for (size_t c = 0; c < n; ++c) row[c] = static_cast<double>(q[i * n + c]);
    double first = 0;
    for (double v : row) first += v * v;
    for (int pass = 0; pass < 2; ++pass)
      for (size_t j = 0; j < i; ++j) {
        const float* other = q.data() + j * n;
        double dot = 0;
        for (size_t c = 0; c < n; ++c) dot += row[c] * static_cast<double>(other[c]);
        for (size_t c = 0; c < n; ++c) row[c] -= dot * static_cast<double>(other[c]);
      }
    double norm = 0;
    for (double v : row) norm += v * v;
    const double factor = norm > 1e-24 * first && norm > 0 ? 1 / std::sqrt(norm) : 0;
    for (size_t c = 0; c < n; ++c) q[i * n + c] = static_cast<float>(row[c] * factor);
  }
}

// Eigenvalues and -vectors (columns of v) of a small symmetric matrix: cyclic Jacobi.
void symmetric_eigen(std::vector<double>& a, std::vector<double>& v, size_t n) {
  v.assign(n * n, 0);
  for (size_t i = 0; i < n; ++i) v[i * n + i] = 1;
  for (int sweep = 0; sweep < kJacobiSweeps; ++sweep) {
    double off = 0, all = 0;
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j) (i == j ? all : off) += a[i * n + j] * a[i * n + j];
    if (off <= 1e-26 * all) break;
    for (size_t p = 0; p + 1 < n; ++p)
      for (size_t q = p + 1; q < n; ++q) {
        const double apq = a[p * n + q];
        if (apq == 0) continue;
        const double theta = (a[q * n + q] - a[p * n + p]) / (2 * apq);
        const double t = (theta >= 0 ? 1.0 : -1.0) / (std::fabs(theta) + std::sqrt(theta * theta + 1));
        const double c = 1 / std::sqrt(t * t + 1), s = t * c;
        for (size_t k = 0; k < n; ++k) {
          const double x = a[k * n + p], y = a[k * n + q];
          a[k * n + p] = c * x - s * y;
          a[k * n + q] = s * x + c * y;
        }
        for (size_t k = 0; k < n; ++k) {
          const double x = a[p * n + k], y = a[q * n + k];
          a[p * n + k] = c * x - s * y;
          a[q * n + k] = s * x + c * y;
        }
        for (size_t k = 0; k < n; ++k) {
          const double x = v[k * n + p], y = v[k * n + q];
          v[k * n + p] = c * x - s * y;
          v[k * n + q] = s * x + c * y;
        }
      }
  }
}

}  // namespace

LowRankFactors low_rank_factors(const std::vector<float>& m, size_t n_rows, size_t n_cols, size_t rank, uint64_t seed, ThreadPool& pool) {
  const size_t k = std::min({rank + kExtra, n_rows, n_cols});
  // Columns of m span what rows of `left` (k, n_rows) do, rows of m what those of `right` (k, n_cols) do.
  AlignedVector<float> transposed;
  const size_t stride = padded_stride(n_rows);
  transpose(m.data(), n_rows, n_cols, transposed, pool);
  std::vector<float> left(k * n_rows), right(k * n_cols), wide(std::max(n_rows, n_cols) * k);
  for (size_t i = 0; i < k; ++i) {
    RowDraws draws(seed, 0x6c6f667471, i);
    for (size_t c = 0; c < n_cols; ++c) right[i * n_cols + c] = static_cast<float>(draws.normal());
  }
  const auto to_left = [&] {  // left = (m · rightᵀ)ᵀ
    products(m.data(), n_cols, n_rows, right.data(), n_cols, k, n_cols, wide.data(), pool);
    transpose(wide.data(), k, n_rows, k, left.data(), n_rows);
  };
  const auto to_right = [&] {
    products(transposed.data(), stride, n_cols, left.data(), n_rows, k, n_rows, wide.data(), pool);
    transpose(wide.data(), k, n_cols, k, right.data(), n_cols);
  };
  to_left();
  orthonormalize(left, k, n_rows);
  for (int i = 0; i < kIterations; ++i) {
    to_right();
    orthonormalize(right, k, n_cols);
    to_left();
    orthonormalize(left, k, n_rows);
  }
  to_right();  // now m ≈ leftᵀ · right, left orthonormal: the singular vectors follow from right · rightᵀ
  std::vector<double> gram(k * k), vectors;
  for (size_t i = 0; i < k; ++i)
    for (size_t j = 0; j <= i; ++j) {
      double dot = 0;
      for (size_t c = 0; c < n_cols; ++c) dot += static_cast<double>(right[i * n_cols + c]) * static_cast<double>(right[j * n_cols + c]);
      gram[i * k + j] = gram[j * k + i] = dot;
    }
  symmetric_eigen(gram, vectors, k);
  std::vector<size_t> order(k);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t x, size_t y) { return gram[x * k + x] > gram[y * k + y]; });
  LowRankFactors f;
  f.left.assign(n_rows * rank, 0);
  f.right.assign(rank * n_cols, 0);
  for (size_t r = 0; r < std::min(rank, k); ++r) {
    const size_t e = order[r];
    const double singular = std::sqrt(std::max(0.0, gram[e * k + e]));
    if (singular <= 0) break;
    const double root = std::sqrt(singular);
    for (size_t i = 0; i < k; ++i) {
      const double u = vectors[i * k + e];
      for (size_t row = 0; row < n_rows; ++row)
        f.left[row * rank + r] += static_cast<float>(u * root * static_cast<double>(left[i * n_rows + row]));
      for (size_t c = 0; c < n_cols; ++c)
        f.right[r * n_cols + c] += static_cast<float>(u * root / singular * static_cast<double>(right[i * n_cols + c]));
    }
  }
  return f;
}

uint64_t loftq_bytes(uint64_t n_rows, uint64_t n_cols, uint64_t rank) {
  const uint64_t k = rank + kExtra;
  const uint64_t floats = n_rows * n_cols + n_cols * padded_stride(n_rows) + (k + rank) * (n_rows + n_cols) + k * std::max(n_rows, n_cols) +
                          kTile * n_cols;
  return floats * sizeof(float) + 2 * k * k * sizeof(double);
}

void start_from_error(const Model& base, const Model& float_model, Adapter& adapter, uint64_t seed, ThreadPool& pool) {
  Progress progress("loftq", adapter.tensors.size(), "tensors");
  for (const auto& [name, r] : adapter.tensors) {
    throw_if_interrupted();
    const ModelTensor &q = base.tensor(name), *w = float_model.find(name);
    if (!w || w->n_rows() != q.n_rows() || w->n_cols() != q.n_cols())
      fail(ExitCode::kBadInput, "{}: tensor {}: expected {} x {} as in {}: the float model must be the one that was quantized",
           float_model.path(), name, q.n_rows(), q.n_cols(), base.path());
    const size_t n = q.n_matrices(), n_rows = q.n_rows() / n, n_cols = q.n_cols();
    std::vector<float> error(n_rows * n_cols), rows(kTile * n_cols);
    for (size_t m = 0; m < n; ++m) {
      w->read_rows(m * n_rows, n_rows, error.data());
      for (size_t first = 0; first < n_rows; first += kTile) {
        const size_t count = std::min(kTile, n_rows - first);
        q.read_rows(m * n_rows + first, count, rows.data());
        for (size_t i = 0; i < count * n_cols; ++i) error[first * n_cols + i] -= rows[i];
      }
      const LowRankFactors f = low_rank_factors(error, n_rows, n_cols, r->rank, seed, pool);
      const float root = 1 / std::sqrt(r->scale);
      for (size_t i = 0; i < f.left.size(); ++i) r->b[m * f.left.size() + i] = f.left[i] * root;
      for (size_t i = 0; i < f.right.size(); ++i) r->a[m * f.right.size() + i] = f.right[i] * root;
    }
    progress.advance(1);
  }
  progress.finish();
}

}  // namespace tsubu
