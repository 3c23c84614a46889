#include "pipeline/output_digest.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/error.h"

namespace tsubu {
namespace {

constexpr uint64_t kChunk = uint64_t{1} << 18;    // stays in the second cache
constexpr uint64_t kBehind = uint64_t{1} << 25;   // bytes that wait for the digest

}  // namespace

OutputDigest::OutputDigest(std::string path, std::function<std::string()> header, std::function<void()> give_up)
    : path_(std::move(path)), give_up_(std::move(give_up)) {
  thread_ = std::thread([this, header = std::move(header)] {
    try {
      run(header);
    } catch (...) {
      std::lock_guard lock(mutex_);
      error_ = std::current_exception();
      changed_.notify_all();
    }
  });
}

OutputDigest::~OutputDigest() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    changed_.notify_all();
  }
  if (!thread_.joinable()) return;
  give_up_();
  thread_.join();
}

void OutputDigest::advance(uint64_t size) {
  std::lock_guard lock(mutex_);
  written_ = std::max(written_, size);
  changed_.notify_all();
}

bool OutputDigest::is_behind() const {
  std::lock_guard lock(mutex_);
  return !error_ && (!has_header_ || written_ > digested_ + kBehind);
}

std::string OutputDigest::header() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return has_header_ || error_; });
  if (error_) std::rethrow_exception(error_);
  return header_;
}

FileDigest OutputDigest::finish() {
  {
    std::lock_guard lock(mutex_);
    whole_ = true;
    changed_.notify_all();
  }
  thread_.join();
  if (error_) std::rethrow_exception(error_);
  return result_;
}

void OutputDigest::run(const std::function<std::string()>& make_header) {
  const std::string header = make_header();
  {
    std::lock_guard lock(mutex_);
    if (stop_) return;
    header_ = header;
    has_header_ = true;
    changed_.notify_all();
  }
  struct Closer {
    int fd;
    ~Closer() { ::close(fd); }
  } file{::open(path_.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) fail(ExitCode::kIo, "{}: cannot read what was written: {}", path_, std::strerror(errno));
  Digest digest(Digest::Kind::kSha256);
  digest.update(header);
  uint64_t at = header.size();
  std::vector<std::byte> buffer(kChunk);
  uint64_t told = 0;
  for (;;) {
    uint64_t end = 0;
    bool whole = false;
    {
      std::unique_lock lock(mutex_);
      digested_ = at;
      changed_.wait(lock, [&] { return stop_ || whole_ || written_ > told; });
      if (stop_) return;
      told = end = written_;
      whole = whole_;
      if (whole && end <= at) break;
    }
    while (at < end) {
      const ssize_t n = ::pread(file.fd, buffer.data(), std::min(kChunk, end - at), static_cast<off_t>(at));
      if (n < 0 && errno == EINTR) continue;
      if (n == 0 && !whole) break;  // the rest waits in a buffer
      if (n <= 0) fail(ExitCode::kIo, "{}: cannot read what was written: {}", path_, n < 0 ? std::strerror(errno) : "it is cut off");
      digest.update(std::span(buffer.data(), static_cast<size_t>(n)));
      at += static_cast<uint64_t>(n);
    }
  }
  result_ = {at, digest.hex()};
}

}  // namespace tsubu
