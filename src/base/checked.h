// Checked arithmetic for sizes that come from files: nothing wraps around, nothing is silently narrowed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>

namespace tsubu {

inline std::optional<uint64_t> checked_add(uint64_t a, uint64_t b) {
  uint64_t r;
  if (__builtin_add_overflow(a, b, &r)) return std::nullopt;
  return r;
}

inline std::optional<uint64_t> checked_mul(uint64_t a, uint64_t b) {
  uint64_t r;
  if (__builtin_mul_overflow(a, b, &r)) return std::nullopt;
  return r;
}

// Product of all factors, 1 for none; nullopt when it does not fit 64 bits.
inline std::optional<uint64_t> checked_product(std::span<const uint64_t> factors) {
  uint64_t r = 1;
  for (uint64_t f : factors)
    if (__builtin_mul_overflow(r, f, &r)) return std::nullopt;
  return r;
}

// n rounded up to a multiple of alignment (a power of two); nullopt on overflow.
inline std::optional<uint64_t> checked_align(uint64_t n, uint64_t alignment) {
  auto sum = checked_add(n, alignment - 1);
  if (!sum) return std::nullopt;
  return *sum & ~(alignment - 1);
}

// True when [offset, offset + size) lies inside [0, total).
inline bool range_fits(uint64_t offset, uint64_t size, uint64_t total) {
  return offset <= total && size <= total - offset;
}

}  // namespace tsubu
