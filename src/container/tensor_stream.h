// The data part of a file that is written streaming: tensors whose sizes are known come one after the other, each in as
// many pieces as the caller likes, and the file is whole only when every one of them is complete.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"

namespace tsubu {

struct StreamedTensor {
  std::string name;
  uint64_t bytes = 0;
};

class TensorStream {
 public:
  explicit TensorStream(const std::string& path) : file_(path) {}
  bool begun() const { return begun_; }
  // Writes everything before the data. Each tensor's end is padded to a multiple of alignment in the file.
  void begin(std::string_view header, std::vector<StreamedTensor> tensors, uint64_t alignment);
  // The next tensor's bytes; moves on when it is complete. Throws Error(kIo) before begin(), for more bytes than the
  // tensor has, and after the last tensor.
  void write(std::span<const std::byte> bytes);
  void commit();  // Error(kIo) unless every tensor is complete
  const AtomicFile& file() const { return file_; }

 private:
  void skip_complete();
  AtomicFile file_;
  std::vector<StreamedTensor> tensors_;
  uint64_t alignment_ = 1;
  size_t next_ = 0;
  uint64_t written_of_next_ = 0;
  bool begun_ = false;
};

}  // namespace tsubu
