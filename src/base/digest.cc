#include "base/digest.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/progress.h"

namespace tsubu {

struct Digest::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Digest::Digest(Kind kind) : state_(std::make_unique<State>()) {
  const EVP_MD* algorithm = kind == Kind::kSha256 ? EVP_sha256() : EVP_sha1();
  if (!state_->context || EVP_DigestInit_ex(state_->context, algorithm, nullptr) != 1)
    fail(ExitCode::kUnsupported, "libcrypto does not give {} (a build restricted to other algorithms?)",
         kind == Kind::kSha256 ? "SHA-256" : "SHA-1");
}

Digest::~Digest() = default;
Digest::Digest(Digest&&) noexcept = default;
Digest& Digest::operator=(Digest&&) noexcept = default;

void Digest::update(std::span<const std::byte> bytes) { EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()); }

void Digest::update(std::string_view text) { update(std::as_bytes(std::span(text.data(), text.size()))); }

std::string Digest::hex() {
  unsigned char value[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_DigestFinal_ex(state_->context, value, &size);
  std::string text;
  for (unsigned int i = 0; i < size; ++i) text += fmt::format("{:02x}", value[i]);
  return text;
}

Digest git_blob_digest(uint64_t size_bytes) {
  Digest digest(Digest::Kind::kSha1);
  digest.update(fmt::format("blob {}", size_bytes));
  digest.update(std::string_view("\0", 1));
  return digest;
}

std::string sha256_of(std::string_view text) {
  Digest digest(Digest::Kind::kSha256);
  digest.update(text);
  return digest.hex();
}

FileDigest digest_file(const std::string& path, const std::atomic<bool>* stop) {
  constexpr size_t kChunk = size_t{1} << 18;  // stays in the second cache
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(ExitCode::kIo, "{}: cannot open: {}", path, std::strerror(errno));
  struct Closer {
    int fd;
    ~Closer() { ::close(fd); }
  } closer{fd};
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  std::vector<std::byte> buffer(kChunk);
  FileDigest result;
  Digest digest(Digest::Kind::kSha256);
  for (;;) {
    throw_if_interrupted();
    if (stop && *stop) return result;
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(ExitCode::kIo, "{}: cannot read: {}", path, std::strerror(errno));
    if (n == 0) break;
    digest.update(std::span(buffer.data(), static_cast<size_t>(n)));
    result.size_bytes += static_cast<uint64_t>(n);
  }
  result.sha256 = digest.hex();
  return result;
}

}  // namespace tsubu
