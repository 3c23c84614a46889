#include "transform/orthogonal.h"

#include <cmath>
#include <numbers>
#include <random>

namespace tsubu {
namespace {

bool is_prime(size_t p) {
  if (p < 2) return false;
  for (size_t d = 2; d * d <= p; ++d)
    if (p % d == 0) return false;
  return true;
}

// χ of the residues mod p: 0 for 0, 1 for squares, -1 for the others.
std::vector<double> quadratic_character(size_t p) {
  std::vector<double> chi(p, -1);
  chi[0] = 0;
  for (size_t i = 1; i < p; ++i) chi[i * i % p] = 1;
  return chi;
}

bool is_first_kind(size_t m) { return m >= 4 && (m - 1) % 4 == 3 && is_prime(m - 1); }
bool is_second_kind(size_t m) { return m >= 12 && m % 2 == 0 && (m / 2 - 1) % 4 == 1 && is_prime(m / 2 - 1); }

// Orthogonal factor of a Gaussian matrix by modified Gram-Schmidt, twice for orthogonality to rounding.
std::vector<double> gaussian_orthogonal(size_t n, std::mt19937_64& random) {
  const auto uniform = [&] { return (static_cast<double>(random() >> 11) + 0.5) * 0x1p-53; };
  std::vector<double> q(n * n);
  for (double& v : q) v = std::sqrt(-2 * std::log(uniform())) * std::cos(2 * std::numbers::pi * uniform());
  for (size_t i = 0; i < n; ++i) {
    double* row = q.data() + i * n;
    for (int pass = 0; pass < 2; ++pass)
      for (size_t j = 0; j < i; ++j) {
        const double* other = q.data() + j * n;
        double dot = 0;
        for (size_t c = 0; c < n; ++c) dot += row[c] * other[c];
        for (size_t c = 0; c < n; ++c) row[c] -= dot * other[c];
      }
    double square = 0;
    for (size_t c = 0; c < n; ++c) square += row[c] * row[c];
    for (size_t c = 0; c < n; ++c) row[c] /= std::sqrt(square);
  }
  return q;
}

}  // namespace

size_t hadamard_base(size_t n) {
  size_t odd = n;
  while (odd != 0 && odd % 2 == 0) odd /= 2;
  for (size_t m = odd; m != 0 && m <= n && n % m == 0; m *= 2)
    if (m == 1 || is_first_kind(m) || is_second_kind(m)) return m;
  return 0;
}

std::vector<double> paley_hadamard(size_t m) {
  if (m == 1) return {1};
  const bool first = is_first_kind(m);
  if (!first && !is_second_kind(m)) return {};
  const size_t p = first ? m - 1 : m / 2 - 1, order = p + 1;
  const std::vector<double> chi = quadratic_character(p);
  // The bordered matrix of χ(i - j): antisymmetric for the first kind, symmetric for the second.
  std::vector<double> c(order * order);
  for (size_t i = 1; i < order; ++i) {
    c[i] = 1;
    c[i * order] = first ? -1 : 1;
    for (size_t j = 1; j < order; ++j) c[i * order + j] = chi[(i + p - j) % p];
  }
  if (first) {
    for (size_t i = 0; i < order; ++i) c[i * order + i] += 1;
    return c;
  }
  std::vector<double> h(m * m);
  for (size_t i = 0; i < order; ++i)
    for (size_t j = 0; j < order; ++j) {
      const double v = c[i * order + j], one = i == j ? 1 : 0;
      double* at = h.data() + 2 * i * m + 2 * j;
      at[0] = v + one;
      at[1] = v - one;
      at[m] = v - one;
      at[m + 1] = -v - one;
    }
  return h;
}

Orthogonal::Orthogonal(size_t n, uint64_t seed) : n_(n), base_(hadamard_base(n)) {
  std::mt19937_64 random(seed);
  if (base_ == 0) {
    matrix_ = gaussian_orthogonal(n, random);
    return;
  }
  matrix_ = paley_hadamard(base_);
  signs_.resize(n);
  for (double& s : signs_) s = (random() >> 63 ? 1 : -1) / std::sqrt(static_cast<double>(n));
}

void Orthogonal::apply(std::span<double> x) const {
  thread_local std::vector<double> y;
  if (!is_hadamard()) {
    y.assign(n_, 0);
    for (size_t i = 0; i < n_; ++i)
      for (size_t j = 0; j < n_; ++j) y[j] += x[i] * matrix_[i * n_ + j];
    std::copy(y.begin(), y.end(), x.begin());
    return;
  }
  const size_t len = n_ / base_;  // x is (base, len)
  for (size_t i = 0; i < n_; ++i) x[i] *= signs_[i];
  for (size_t block = 0; block < n_; block += len)
    for (size_t half = 1; half < len; half *= 2)
      for (size_t i = block; i < block + len; i += 2 * half)
        for (size_t j = i; j < i + half; ++j) {
          const double a = x[j], b = x[j + half];
          x[j] = a + b;
          x[j + half] = a - b;
        }
  if (base_ == 1) return;
  y.assign(n_, 0);
  for (size_t i = 0; i < base_; ++i)
    for (size_t k = 0; k < base_; ++k) {
      const double h = matrix_[i * base_ + k];
      for (size_t j = 0; j < len; ++j) y[k * len + j] += h * x[i * len + j];
    }
  std::copy(y.begin(), y.end(), x.begin());
}

}  // namespace tsubu
