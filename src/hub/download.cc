#include "hub/download.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>

#include "base/digest.h"
#include "base/size.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

// W/"abc" → abc.
std::string plain_etag(std::string_view text) {
  if (text.starts_with("W/")) text.remove_prefix(2);
  while (text.starts_with('"')) text.remove_prefix(1);
  while (text.ends_with('"')) text.remove_suffix(1);
  return std::string(text);
}

// It becomes a file's name.
bool is_plain_etag(const std::string& etag) {
  return !etag.empty() && etag.size() <= 128 && std::all_of(etag.begin(), etag.end(), [](char c) {
           return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_';
         });
}

std::optional<uint64_t> number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

// "bytes 100-199/200" → 100.
std::optional<uint64_t> first_of_range(std::string_view text) {
  if (!text.starts_with("bytes ")) return {};
  text.remove_prefix(6);
  return number(text.substr(0, text.find('-')));
}

struct FileHead {
  std::string etag;
  std::optional<uint64_t> size;
};

// What an answer of the hub says of a file: its linked (large) file's digest and size before those of the answer.
FileHead head_of(const FetchResponse& response) {
  FileHead head;
  std::string_view etag = response.header("x-linked-etag"), size = response.header("x-linked-size");
  if (etag.empty()) etag = response.header("etag");
  if (size.empty() && !response.is_redirect() && response.status != 206) size = response.header("content-length");
  head.etag = plain_etag(etag);
  head.size = number(size);
  return head;
}

enum class Check { kSha256, kGitSha1, kSize };

Check check_for(const std::string& etag) {
  const bool hex = std::all_of(etag.begin(), etag.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  return hex && etag.size() == 64 ? Check::kSha256 : hex && etag.size() == 40 ? Check::kGitSha1 : Check::kSize;
}

// What came so far: a file that grows at its end, and the digest of it.
class Incomplete {
 public:
  Incomplete(const std::string& path, Check check, uint64_t expected) : path_(path), check_(check), expected_(expected) {
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd_ < 0) fail_errno("open");
    struct stat st {};
    if (::fstat(fd_, &st) != 0) fail_errno("stat");
    reset();
    if (static_cast<uint64_t>(st.st_size) > expected_) {
      restart();
      return;
    }
    read_again(static_cast<uint64_t>(st.st_size));
  }
  ~Incomplete() { ::close(fd_); }
  Incomplete(const Incomplete&) = delete;
  Incomplete& operator=(const Incomplete&) = delete;

  uint64_t size() const { return size_; }

  void restart() {
    if (::ftruncate(fd_, 0) != 0) fail_errno("shorten");
    reset();
  }

  void append(std::span<const std::byte> bytes) {
    if (bytes.size() > expected_ - size_)
      fail(ExitCode::kBadInput, "{}: expected {} bytes, the server sends more", path_, expected_);
    digest_->update(bytes);
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t n = ::pwrite(fd_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(size_ + done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail_errno("write");
      done += static_cast<size_t>(n);
    }
    size_ += bytes.size();
  }

  std::string digest() { return check_ == Check::kSize ? "" : digest_->hex(); }

  void commit(const std::string& name) {
    if (::fsync(fd_) != 0) fail_errno("sync");
    if (::rename(path_.c_str(), name.c_str()) != 0) fail_errno("rename");
  }

 private:
  void reset() {
    size_ = 0;
    digest_ = check_ == Check::kGitSha1 ? git_blob_digest(expected_) : Digest(Digest::Kind::kSha256);
  }

  void read_again(uint64_t n_bytes) {
    std::vector<std::byte> buffer(size_t{1} << 20);
    while (size_ < n_bytes) {
      throw_if_interrupted();
      const ssize_t n = ::pread(fd_, buffer.data(), std::min<uint64_t>(buffer.size(), n_bytes - size_), static_cast<off_t>(size_));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail_errno("read");
      if (n == 0) break;
      digest_->update(std::span(buffer.data(), static_cast<size_t>(n)));
      size_ += static_cast<uint64_t>(n);
    }
  }

  [[noreturn]] void fail_errno(const char* what) const {
    fail(ExitCode::kIo, "{}: cannot {}: {}{}", path_, what, std::strerror(errno),
         errno == ENOSPC ? " (free some space; the same command goes on from there)" : "");
  }

  std::string path_;
  Check check_;
  uint64_t expected_, size_ = 0;
  int fd_ = -1;
  std::optional<Digest> digest_;
};

void check_space(const std::string& folder, uint64_t needed) {
  struct statvfs fs_state {};
  if (statvfs(folder.c_str(), &fs_state) != 0) return;
  const uint64_t available = uint64_t{fs_state.f_bavail} * fs_state.f_frsize;
  if (available < needed)
    fail(ExitCode::kIo, "{}: needs {} more, the file system has {} left (free some space, or name another place with HF_HOME)",
         folder, format_size(needed), format_size(available));
}

}  // namespace

DownloadedFile download_file(HubClient& client, const RepoCache& cache, const Repo& repo, RepoFile file, Progress& progress) {
  const std::string subject = repo.id + "/" + file.name, path = file_path(repo, file.name);
  DownloadedFile result;
  result.name = file.name;
  if (file.etag.empty()) {  // a listing without digests
    const FileHead head = head_of(client.head_file(path, subject));
    file.etag = head.etag;
    if (!head.size || !is_plain_etag(head.etag))
      fail(ExitCode::kBadInput, "{}: expected a size and an ETag from the server, found neither or odd ones", subject);
    file.size_bytes = *head.size;
  }
  result.size_bytes = file.size_bytes;
  const Check check = check_for(file.etag);
  result.checked = check == Check::kSha256 ? "sha256" : check == Check::kGitSha1 ? "git sha1" : "size";

  cache.make_folders();
  const FileLock lock(cache.lock_path(file.etag));
  const std::string blob = cache.blob_path(file.etag);
  std::error_code error;
  if (fs::is_regular_file(blob, error) && fs::file_size(blob, error) == file.size_bytes && !error) {
    progress.advance(file.size_bytes, file.name);
    cache.link(repo.commit, file.name, file.etag);
    return result;
  }

  Incomplete part(blob + ".incomplete", check, file.size_bytes);
  result.resumed_bytes = part.size();
  progress.advance(part.size(), file.name);
  check_space(cache.folder(), file.size_bytes - part.size());
  const auto on_hub = [&](const FetchResponse& response) {
    const std::string_view commit = response.header("x-repo-commit");
    const FileHead head = head_of(response);
    if (!commit.empty() && commit != repo.commit)
      fail(ExitCode::kBadInput, "{}: expected it at commit {}, the server sends {}", subject, repo.commit, commit.substr(0, 80));
    if (check != Check::kSize && is_plain_etag(head.etag) && check_for(head.etag) == check && head.etag != file.etag)
      fail(ExitCode::kBadInput, "{}: expected the file with digest {}, the server sends {}", subject, file.etag, head.etag);
  };
  bool again = false;  // after bytes that were not those of the digest
  for (int failures = 0;;) {
    const uint64_t before = part.size();
    try {
      if (part.size() < file.size_bytes) {
        bool is_first = true;
        client.get_file(path, subject, part.size(), on_hub, [&](const FetchResponse& answer, std::span<const std::byte> bytes) {
          if (std::exchange(is_first, false)) {
            const auto begin = first_of_range(answer.header("content-range"));
            if (answer.status == 206 && begin && *begin != part.size())
              fail(ExitCode::kBadInput, "{}: expected bytes from {} on, the server sends them from {}", subject, part.size(), *begin);
            if (answer.status == 200 && part.size() > 0) part.restart();  // it knows no ranges and sends all of it again
          }
          part.append(bytes);
          result.fetched_bytes += bytes.size();
          progress.advance(bytes.size(), file.name);
        });
        if (part.size() < file.size_bytes)
          throw TransportError(fmt::format("{}: the connection ended after {} of {} bytes", subject, part.size(), file.size_bytes), true);
      }
    } catch (const TransportError& broken) {
      failures = part.size() > before ? 1 : failures + 1;
      client.wait_to_retry(failures, broken);
      continue;
    }
    const std::string digest = part.digest();
    if (check == Check::kSize || digest == file.etag) break;
    part.restart();
    if (again || result.resumed_bytes == 0)
      fail(ExitCode::kBadInput,
           "{}: checksum: expected {} {}, found {} (the file was damaged on its way; nothing of it was kept: try again)", subject,
           result.checked, file.etag, digest);
    again = true;
    result.resumed_bytes = 0;
    note(fmt::format("{}: what an earlier run left is not the file's beginning; fetching it from the start", subject));
  }
  part.commit(blob);
  cache.link(repo.commit, file.name, file.etag);
  return result;
}

}  // namespace tsubu
