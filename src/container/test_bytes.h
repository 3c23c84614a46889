// For tests: files built byte by byte, and a folder that goes away with the test.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/file.h"

namespace tsubu {

struct Bytes {
  std::string text;

  template <class T>
  Bytes& add(T value) {
    text.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytes& raw(std::string_view s) {
    text += s;
    return *this;
  }
  // A GGUF string: u64 length, then bytes.
  Bytes& string(std::string_view s) { return add<uint64_t>(s.size()).raw(s); }
  Bytes& pad_to(size_t alignment) {
    text.resize((text.size() + alignment - 1) / alignment * alignment);
    return *this;
  }
  std::span<const std::byte> span() const { return std::as_bytes(std::span(text.data(), text.size())); }
};

inline std::span<const std::byte> bytes_of(std::string_view s) { return std::as_bytes(std::span(s.data(), s.size())); }

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "tsubu-test-XXXXXX").string();
    if (!mkdtemp(pattern.data())) throw std::runtime_error("cannot make a temporary folder");
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ec;
    std::filesystem::remove_all(path_, ec);
  }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// The message of the Error that f throws; fails the test when it throws none or one of another kind.
inline std::string error_of(const std::function<void()>& f, ExitCode code = ExitCode::kBadInput) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

// Every prefix of a valid file is refused; every byte set to other values either parses or is refused.
inline void check_prefixes_and_flips(const std::string& valid, bool (*parses)(std::span<const std::byte>),
                                     size_t min_bytes) {
  ASSERT_TRUE(parses(bytes_of(valid)));
  for (size_t n = 0; n < valid.size(); ++n) {
    // A copy of its own, so that reading past its end is seen by a sanitizer.
    const std::string prefix = valid.substr(0, n);
    EXPECT_EQ(parses(bytes_of(prefix)), n >= min_bytes) << "prefix of " << n;
  }
  for (size_t i = 0; i < valid.size(); ++i) {
    const int v = valid[i];
    for (const int value : {0x00, 0x01, 0x7f, 0x80, 0xff, v ^ 0x01, v ^ 0x80, v + 1, v - 1}) {
      std::string changed = valid;
      changed[i] = static_cast<char>(value);
      parses(bytes_of(changed));
    }
  }
}

}  // namespace tsubu
