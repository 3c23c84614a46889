#include "gradient/lent_buffers.h"

#include <numeric>
#include <utility>

namespace tsubu {

size_t LentBuffers::choice(std::span<const size_t> sizes, size_t n) {
  constexpr size_t kFarTooLarge = 4;
  size_t best = sizes.size();
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] / kFarTooLarge > n) continue;
    const auto is_better = [&](size_t size, size_t than) {
      return size >= n ? than < n || size < than : than < n && size > than;
    };
    if (best == sizes.size() || is_better(sizes[i], sizes[best])) best = i;
  }
  return best;
}

LentBuffers::Buffer LentBuffers::take(size_t n) {
  const size_t best = choice(sizes_, n);
  Buffer buffer;
  if (best < free_.size()) {
    buffer = std::move(free_[best]);
    free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(best));
    sizes_.erase(sizes_.begin() + static_cast<std::ptrdiff_t>(best));
  }
  if (buffer.size() < n) {
    Buffer().swap(buffer);  // before the larger one is there
    buffer.resize(n);
  }
  return buffer;
}

void LentBuffers::give(Buffer&& buffer) {
  sizes_.push_back(buffer.size());
  free_.push_back(std::move(buffer));
}

void LentBuffers::clear() {
  free_.clear();
  sizes_.clear();
}

uint64_t LentBuffers::free_floats() const { return std::accumulate(sizes_.begin(), sizes_.end(), uint64_t{0}); }

size_t LentSizes::take(size_t n) {
  const size_t best = LentBuffers::choice(free_, n);
  size_t size = 0;
  if (best < free_.size()) {
    size = free_[best];
    free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(best));
  }
  if (size >= n) return size;
  floats_ += n - size;
  return n;
}

}  // namespace tsubu
