#include "hub/cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <set>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/progress.h"
#include "hub/name.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "models--";
// The standard's signature (https://bford.info/cachedir/): backups leave such a folder out.
constexpr std::string_view kCacheTag =
    "Signature: 8a477f597d28d172789f06886806bc55\n# A cache of models from the hub; see https://bford.info/cachedir/\n";

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail(ExitCode::kIo, "{}: cannot be made: {} (HF_HOME names another place)", folder.string(), error.message());
}

// Of the entries of a folder; none when it cannot be read.
std::vector<fs::directory_entry> entries(const fs::path& folder) {
  std::vector<fs::directory_entry> found;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) found.push_back(*it);
  std::sort(found.begin(), found.end());
  return found;
}

// Regular files below a folder, links followed, as relative names.
std::vector<std::string> files_below(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::error_code broken;
    if (it->is_regular_file(broken)) names.push_back(it->path().lexically_relative(folder).string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string trimmed_text(const std::string& path) {
  std::string text = read_text_file(path, 4096);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) text.pop_back();
  return text;
}

}  // namespace

RepoCache::RepoCache(const std::string& cache, const std::string& id) : cache_(cache) {
  std::string name(kPrefix);
  for (char c : id) name += c == '/' ? std::string("--") : std::string(1, c);
  folder_ = (fs::path(cache) / name).string();
  locks_ = (fs::path(cache) / ".locks" / name).string();
}

std::string RepoCache::blob_path(const std::string& etag) const { return (fs::path(folder_) / "blobs" / etag).string(); }

std::string RepoCache::lock_path(const std::string& etag) const { return (fs::path(locks_) / (etag + ".lock")).string(); }

std::string RepoCache::snapshot_folder(const std::string& commit) const {
  return (fs::path(folder_) / "snapshots" / commit).string();
}

std::string RepoCache::snapshot_file(const std::string& commit, const std::string& file) const {
  return (fs::path(snapshot_folder(commit)) / file).string();
}

std::string RepoCache::commit_of(const std::string& revision) const {
  std::error_code error;
  const fs::path ref = fs::path(folder_) / "refs" / revision;
  if (fs::is_regular_file(ref, error)) {
    const std::string commit = trimmed_text(ref.string());
    if (is_commit(commit)) return commit;
  }
  return is_commit(revision) ? revision : "";
}

void RepoCache::set_commit(const std::string& revision, const std::string& commit) const {
  if (revision == commit || commit_of(revision) == commit) return;
  const fs::path ref = fs::path(folder_) / "refs" / revision;
  make_folder(ref.parent_path());
  make_folder(locks_);
  const FileLock lock((fs::path(locks_) / "refs.lock").string());  // writers share the name of their temporary file
  write_text_file(ref.string(), commit);
}

std::vector<std::string> RepoCache::files(const std::string& commit) const {
  return commit.empty() ? std::vector<std::string>() : files_below(snapshot_folder(commit));
}

void RepoCache::link(const std::string& commit, const std::string& file, const std::string& etag) const {
  const fs::path name = snapshot_file(commit, file);
  make_folder(name.parent_path());
  std::error_code error;
  fs::path up;
  for (const fs::path& part : fs::path(file).parent_path()) up /= part.empty() ? "" : "..";
  const fs::path target = up / ".." / ".." / "blobs" / etag;
  if (fs::read_symlink(name, error) == target) return;
  const std::string temporary = fmt::format("{}.{}.tmp", name.string(), ::getpid());
  fs::remove(temporary, error);
  fs::create_symlink(target, temporary, error);
  if (error) fs::create_hard_link(blob_path(etag), temporary, error);  // a file system without links of the one kind
  if (!error) fs::rename(temporary, name, error);
  if (error) fail(ExitCode::kIo, "{}: cannot be linked to its bytes: {}", name.string(), error.message());
}

void RepoCache::make_folders() const {
  make_folder(fs::path(folder_) / "blobs");
  make_folder(locks_);
  const fs::path tag = fs::path(cache_) / "CACHEDIR.TAG";
  std::error_code error;
  if (fs::exists(tag, error)) return;
  const FileLock lock((fs::path(locks_) / "tag.lock").string());
  if (!fs::exists(tag, error)) write_text_file(tag.string(), kCacheTag);
}

FileLock::FileLock(const std::string& path) {
  // Others who share the cache must be able to take it, too.
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0664);
  if (fd_ < 0) fail(ExitCode::kIo, "{}: cannot be made: {}", path, std::strerror(errno));
  bool told = false;
  while (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) return;  // no flock here (some network file systems): nothing to wait for
    if (!std::exchange(told, true)) note(fmt::format("{}: another process is fetching this file; waiting", path));
    if (interrupted()) ::close(fd_);
    throw_if_interrupted();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

FileLock::~FileLock() { ::close(fd_); }

std::vector<CachedRepo> list_cache(const std::string& cache) {
  std::vector<CachedRepo> repos;
  for (const fs::directory_entry& entry : entries(cache)) {
    const std::string name = entry.path().filename().string();
    std::error_code error;
    if (!name.starts_with(kPrefix) || !entry.is_directory(error)) continue;
    CachedRepo repo;
    repo.id = name.substr(kPrefix.size());
    if (const size_t at = repo.id.find("--"); at != std::string::npos) repo.id = repo.id.substr(0, at) + '/' + repo.id.substr(at + 2);
    repo.folder = entry.path().string();
    for (const fs::directory_entry& blob : entries(entry.path() / "blobs")) {
      if (!blob.is_regular_file(error)) continue;
      const uint64_t size = blob.file_size(error);
      if (error) continue;
      repo.size_bytes += size;
      if (blob.path().extension() == ".incomplete") repo.incomplete_bytes += size;
    }
    const RepoCache of_repo(cache, repo.id);
    for (const fs::directory_entry& snapshot : entries(entry.path() / "snapshots")) {
      CachedRevision revision;
      revision.commit = snapshot.path().filename().string();
      revision.files = of_repo.files(revision.commit);
      std::set<std::string> counted;
      for (const std::string& file : revision.files) {
        const fs::path path = snapshot.path() / file;
        if (counted.insert(fs::canonical(path, error).string()).second) revision.size_bytes += fs::file_size(path, error);
      }
      for (const std::string& ref : files_below(entry.path() / "refs"))
        if (of_repo.commit_of(ref) == revision.commit) revision.refs.push_back(ref);
      repo.revisions.push_back(std::move(revision));
    }
    repos.push_back(std::move(repo));
  }
  return repos;
}

}  // namespace tsubu
