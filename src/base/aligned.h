// Memory that starts on a cache line. Vectors from the usual allocator start 16 bytes into one, so every 64-byte load
// touches two lines: products on tiles take 1.5 to 3 times as long (bench/results/2026-11-26-speed.md).
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace tsubu {

inline constexpr size_t kCacheLine = 64;  // bytes

template <class T>
struct AlignedAllocator {
  using value_type = T;
  AlignedAllocator() = default;
  template <class U>
  AlignedAllocator(const AlignedAllocator<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{kCacheLine})); }
  void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t{kCacheLine}); }
  template <class U>
  bool operator==(const AlignedAllocator<U>&) const {
    return true;
  }
};

// For what kernels read and write in bulk.
template <class T>
using AlignedVector = std::vector<T, AlignedAllocator<T>>;

}  // namespace tsubu
