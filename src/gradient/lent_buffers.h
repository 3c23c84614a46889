// Buffers of floats that are lent and come back: windows of one size take the same ones again and again. And the same with
// sizes alone, for what it will take.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned.h"

namespace tsubu {

class LentBuffers {
 public:
  using Buffer = AlignedVector<float>;
  // At least n floats, of any value.
  Buffer take(size_t n);
  void give(Buffer&& buffer);
  void clear();
  uint64_t free_floats() const;
  // Which of the free buffers of these sizes is lent for n floats: the smallest that is large enough, but none that is far too
  // large; else the largest of the smaller ones, to grow; sizes.size() when a new one is to be made. So the head's stays the only
  // one of its size.
  static size_t choice(std::span<const size_t> sizes, size_t n);

 private:
  std::vector<Buffer> free_;
  std::vector<size_t> sizes_;  // of them
};

// LentBuffers without the memory.
class LentSizes {
 public:
  // The size of what is lent.
  size_t take(size_t n);
  void give(size_t size) { free_.push_back(size); }
  // Floats of all buffers that were ever made.
  uint64_t floats() const { return floats_; }

 private:
  std::vector<size_t> free_;
  uint64_t floats_ = 0;
};

}  // namespace tsubu
