// SHA-256 and git's blob name (SHA-1): what others name files by. libcrypto computes them, with the processor's own
// instructions where it has them. For quick names of our own see base/hash.h.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace tsubu {

// A digest over bytes as they come.
class Digest {
 public:
  enum class Kind { kSha256, kSha1 };
  explicit Digest(Kind kind);
  ~Digest();
  Digest(Digest&&) noexcept;
  Digest& operator=(Digest&&) noexcept;

  void update(std::span<const std::byte> bytes);
  void update(std::string_view text);
  // Lower-case hexadecimal. Ends the digest: call it once.
  std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The digest that git names a file of so many bytes by: SHA-1 of "blob SIZE\0" and the bytes, which are still to be given.
Digest git_blob_digest(uint64_t size_bytes);

std::string sha256_of(std::string_view text);

struct FileDigest {
  uint64_t size_bytes = 0;
  std::string sha256;
};
// Streams the file. Throws Error(kIo, kInterrupted). stop: set by somebody who no longer wants it; sha256 is empty then.
FileDigest digest_file(const std::string& path, const std::atomic<bool>* stop = nullptr);

}  // namespace tsubu
