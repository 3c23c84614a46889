// Files: read by mmap, written whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tsubu {

// A read-only mapping of a whole file. Movable; the bytes stay valid while the object lives.
class MappedFile {
 public:
  MappedFile() = default;
  // Throws Error(kIo) when the file cannot be opened or mapped, Error(kBadInput) when it is no regular file.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

  // Hints for the page cache; never needed for correctness. `release` drops the pages of a part that was read, which
  // keeps the resident set of a streaming pass small.
  void will_need(uint64_t offset, uint64_t size) const;
  void release(uint64_t offset, uint64_t size) const;
  void sequential() const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Drops the resident pages of any read-only mapped range (page-aligned inwards). Harmless on other memory is NOT
// guaranteed: pass only spans that come from a MappedFile.
void release_mapped(std::span<const std::byte> bytes);

// A file that appears under its name only at commit(): bytes go to a temporary beside it, which is synced and renamed.
// Without commit() (an exception, an interrupt) the destructor removes the temporary. Every failure is Error(kIo).
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  // Zero bytes up to the next multiple of alignment (counted from the start of the file).
  void pad_to(uint64_t alignment);
  // Overwrites bytes written before; does not move the end.
  void write_at(uint64_t offset, std::span<const std::byte> bytes);
  uint64_t size() const { return size_; }
  void commit();

  // The temporary's name for a given path; a leftover of that name means an earlier run was interrupted.
  static std::string temporary_name(const std::string& path);
  // True when this run found (and replaced) a leftover of an interrupted one.
  bool found_leftover() const { return found_leftover_; }

 private:
  void flush();
  std::string path_, temporary_;
  int fd_ = -1;
  uint64_t size_ = 0;
  std::string buffer_;
  bool found_leftover_ = false;
};

// Whole small text file. max_size guards against reading something absurd.
std::string read_text_file(const std::string& path, uint64_t max_size = uint64_t{1} << 32);
void write_text_file(const std::string& path, std::string_view text);

// True when both names lead to the same existing file.
bool same_file(const std::string& a, const std::string& b);

}  // namespace tsubu
