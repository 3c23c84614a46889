// A random orthogonal matrix Q of any size, by its action. Where a Hadamard matrix H of that size is known,
// Q = diag(±1) H / √n with random signs: 2^k, 2^k·(p+1) for a prime p ≡ 3 (mod 4) and 2^k·2(p+1) for a prime p ≡ 1
// (mod 4) (Paley, "On orthogonal matrices", 1933); else the orthogonal factor of a Gaussian matrix. Everything in
// double. Random Hadamard matrices in quantization: QuaRot (arXiv:2404.00456), SpinQuant (arXiv:2405.16406).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tsubu {

// Order m of the matrix in H = H_m ⊗ H_(n/m) with n/m a power of two, the smallest there is; 0 when none is known.
// m = 1: a Sylvester matrix.
size_t hadamard_base(size_t n);
// A Hadamard matrix of order m (1, or Paley's), row-major; empty when none is known.
std::vector<double> paley_hadamard(size_t m);

class Orthogonal {
 public:
  // The same matrix for the same size and seed.
  Orthogonal(size_t n, uint64_t seed);
  size_t n() const { return n_; }
  bool is_hadamard() const { return !signs_.empty(); }
  // x ← xᵀQ in place, x of n values. Thread-safe.
  void apply(std::span<double> x) const;

 private:
  size_t n_, base_ = 0;
  std::vector<double> signs_;   // Hadamard: ±1/√n
  std::vector<double> matrix_;  // of the base, or Q itself, row-major
};

}  // namespace tsubu
