// A block of memory that may be let go and read again (release_mapped): the pages of a file that has no name any more,
// so that it is gone when the process is, or without a folder shared memory. Bytes start as zeros.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace tsubu {

class ScratchMemory {
 public:
  // folder: where the file lies; empty: memory. Throws Error(kIo) when there is no room.
  ScratchMemory(uint64_t size, const std::string& folder);
  ~ScratchMemory();
  ScratchMemory(ScratchMemory&& other) noexcept;
  ScratchMemory(const ScratchMemory&) = delete;
  ScratchMemory& operator=(const ScratchMemory&) = delete;
  std::span<std::byte> bytes() { return {data_, size_}; }

 private:
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
};

}  // namespace tsubu
