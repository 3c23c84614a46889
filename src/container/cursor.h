// A cursor over the bytes of a little-endian file: every read is checked against what is left, and every refusal names
// the file, the offset, what was being read, what was expected and what was found.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace tsubu {

static_assert(std::endian::native == std::endian::little, "containers are read in place: little-endian hosts only");

// Text from a file as it may be shown in a message: control bytes escaped, at most 80 bytes.
std::string printable(std::string_view text);

class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  uint64_t offset() const { return offset_; }
  uint64_t remaining() const { return bytes_.size() - offset_; }

  // Throws Error(kBadInput) located at a given offset.
  template <class... Args>
  [[noreturn]] void bad_at(uint64_t offset, fmt::format_string<Args...> format, Args&&... args) const {
    fail(ExitCode::kBadInput, "{}@{:#x}: {}", path_, offset, fmt::format(format, std::forward<Args>(args)...));
  }

  // The next n bytes, in place.
  std::span<const std::byte> take(uint64_t n, std::string_view what) {
    if (n > remaining())
      bad_at(offset_, "{}: expected {} bytes, found {} before the end of the file (it is truncated or damaged: get it "
             "again)", what, n, remaining());
    const auto part = bytes_.subspan(offset_, n);
    offset_ += n;
    return part;
  }

  template <class T>
  T read(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof value, what).data(), sizeof value);
    return value;
  }

  std::string_view text(uint64_t n, std::string_view what) {
    const auto part = take(n, what);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }

  // A count of things that take at least min_bytes each: refused when the rest of the file cannot hold them.
  uint64_t read_count(uint64_t min_bytes, std::string_view what) {
    const uint64_t at = offset_;
    const auto n = read<uint64_t>(what);
    if (n > remaining() / min_bytes)
      bad_at(at, "{}: expected at most {} (what the remaining {} bytes can hold), found {} (the file is truncated or "
             "damaged: get it again)", what, remaining() / min_bytes, remaining(), n);
    return n;
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& path_;
  uint64_t offset_ = 0;
};

}  // namespace tsubu
