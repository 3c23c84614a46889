#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/error.h"

namespace tsubu {
namespace {

constexpr size_t kWriteBuffer = size_t{1} << 20;
constexpr size_t kLarge = size_t{1} << 16;  // is not gathered

uint64_t page_size() {
  static const uint64_t size = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return size;
}

[[noreturn]] void fail_errno(const std::string& path, const char* what) {
  const int error = errno;
  const char* advice = error == ENOSPC   ? " (free some space or write elsewhere)"
                       : error == EACCES ? " (check the permissions)"
                       : error == ENOENT ? " (check the name)"
                                         : "";
  fail(ExitCode::kIo, "{}: cannot {}: {}{}", path, what, std::strerror(error), advice);
}

void write_all(int fd, const std::string& path, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t n = ::write(fd, data, size);
    if (n < 0) {
      if (errno == EINTR) continue;
      fail_errno(path, "write");
    }
    data += n;
    size -= static_cast<size_t>(n);
  }
}

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail_errno(path, "open");
  struct stat st {};
  if (::fstat(fd, &st) != 0) {
    ::close(fd);
    fail_errno(path, "stat");
  }
  if (!S_ISREG(st.st_mode)) {
    ::close(fd);
    fail(ExitCode::kBadInput, "{}: expected a regular file, found {}", path,
         S_ISDIR(st.st_mode) ? "a directory" : "something else");
  }
  size_ = static_cast<size_t>(st.st_size);
  if (size_ > 0) {
    void* p = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
      ::close(fd);
      fail_errno(path, "map");
    }
    data_ = static_cast<const std::byte*>(p);
  }
  ::close(fd);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::will_need(uint64_t offset, uint64_t size) const {
  if (!data_ || offset >= size_) return;
  const uint64_t begin = offset / page_size() * page_size();
  ::madvise(const_cast<std::byte*>(data_) + begin, std::min<uint64_t>(offset + size, size_) - begin, MADV_WILLNEED);
}

void MappedFile::release(uint64_t offset, uint64_t size) const {
  if (!data_ || offset >= size_) return;
  release_mapped(bytes().subspan(offset, std::min<uint64_t>(size, size_ - offset)));
}

void MappedFile::sequential() const {
  if (data_) ::madvise(const_cast<std::byte*>(data_), size_, MADV_SEQUENTIAL);
}

void release_mapped(std::span<const std::byte> bytes) {
  const auto begin = (reinterpret_cast<uintptr_t>(bytes.data()) + page_size() - 1) / page_size() * page_size();
  const auto end = (reinterpret_cast<uintptr_t>(bytes.data()) + bytes.size()) / page_size() * page_size();
  if (end > begin) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

std::string AtomicFile::temporary_name(const std::string& path) { return path + ".tsubu-part"; }

AtomicFile::AtomicFile(const std::string& path) : path_(path), temporary_(temporary_name(path)) {
  std::error_code ec;
  // Renaming over a device or a pipe would replace it.
  if (std::filesystem::exists(path, ec) && !std::filesystem::is_regular_file(path, ec))
    fail(ExitCode::kIo, "{}: cannot write: expected a new name or a regular file, found {}", path,
         std::filesystem::is_directory(path, ec) ? "a directory (name a file in it)" : "a device or the like");
  found_leftover_ = std::filesystem::exists(temporary_, ec);
  fd_ = ::open(temporary_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd_ < 0) fail_errno(temporary_, "create");
  buffer_.reserve(kWriteBuffer);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::flush() {
  write_all(fd_, temporary_, buffer_.data(), buffer_.size());
  buffer_.clear();
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  if (bytes.size() >= kLarge || buffer_.size() + bytes.size() > kWriteBuffer) flush();
  const char* data = reinterpret_cast<const char*>(bytes.data());
  if (bytes.size() >= kLarge)
    write_all(fd_, temporary_, data, bytes.size());
  else
    buffer_.append(data, bytes.size());
  size_ += bytes.size();
}

void AtomicFile::write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

void AtomicFile::pad_to(uint64_t alignment) {
  static constexpr char kZeros[4096] = {};
  uint64_t missing = (alignment - size_ % alignment) % alignment;
  while (missing > 0) {
    const uint64_t n = std::min<uint64_t>(missing, sizeof kZeros);
    write(std::string_view(kZeros, n));
    missing -= n;
  }
}

void AtomicFile::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  flush();
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n =
        ::pwrite(fd_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (n < 0) {
      if (errno == EINTR) continue;
      fail_errno(temporary_, "write");
    }
    done += static_cast<size_t>(n);
  }
}

void AtomicFile::commit() {
  flush();
  if (::fsync(fd_) != 0) fail_errno(temporary_, "sync");
  if (::close(fd_) != 0) {
    fd_ = -1;
    ::unlink(temporary_.c_str());
    fail_errno(temporary_, "close");
  }
  fd_ = -1;
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    errno = error;
    fail_errno(path_, "rename to");
  }
}

std::string read_text_file(const std::string& path, uint64_t max_size) {
  MappedFile file(path);
  if (file.bytes().size() > max_size)
    fail(ExitCode::kBadInput, "{}: {} bytes, expected at most {}", path, file.bytes().size(), max_size);
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

void write_text_file(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

bool same_file(const std::string& a, const std::string& b) {
  std::error_code ec;
  return std::filesystem::equivalent(a, b, ec) && !ec;
}

}  // namespace tsubu
