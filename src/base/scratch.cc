#include "base/scratch.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace tsubu {

ScratchMemory::ScratchMemory(uint64_t size, const std::string& folder) : size_(size) {
  if (size == 0) return;
  int fd = -1, flags = MAP_SHARED;
  if (folder.empty()) {
    flags |= MAP_ANONYMOUS;
  } else {
    std::string name = folder + "/tsubu-scratch-XXXXXX";
    fd = ::mkostemp(name.data(), O_CLOEXEC);
    if (fd < 0) fail(ExitCode::kIo, "{}: cannot make a temporary file: {}", folder, std::strerror(errno));
    ::unlink(name.c_str());
    // A hole that cannot be filled later would end the process.
    if (const int error = ::posix_fallocate(fd, 0, static_cast<off_t>(size)); error != 0) {
      ::close(fd);
      fail(ExitCode::kIo, "{}: no room for a temporary file of {} bytes: {}", folder, size, std::strerror(error));
    }
  }
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, 0);
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (data == MAP_FAILED) fail(ExitCode::kIo, "no memory for {} bytes: {}", size, std::strerror(error));
  data_ = static_cast<std::byte*>(data);
}

ScratchMemory::~ScratchMemory() {
  if (data_) ::munmap(data_, size_);
}

ScratchMemory::ScratchMemory(ScratchMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

}  // namespace tsubu
