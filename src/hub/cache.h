// The local hub cache, laid out as huggingface_hub has it, so that either finds what the other fetched:
//   models--org--name/blobs/<etag>                  bytes; SHA-256 of large files, git's blob name of small ones
//   models--org--name/blobs/<etag>.incomplete       what came so far
//   models--org--name/snapshots/<commit>/<file>     a relative link to the blob
//   models--org--name/refs/<revision>               the commit that a branch or tag was, as text
//   .locks/models--org--name/<etag>.lock            flock while a blob is written
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tsubu {

class RepoCache {
 public:
  // cache: HubEnvironment::cache; id: "org/name". Makes nothing.
  RepoCache(const std::string& cache, const std::string& id);

  const std::string& folder() const { return folder_; }
  std::string blob_path(const std::string& etag) const;
  std::string lock_path(const std::string& etag) const;
  std::string snapshot_folder(const std::string& commit) const;
  std::string snapshot_file(const std::string& commit, const std::string& file) const;

  // The commit of a branch or tag, or the revision itself when it is a commit; empty: not known here.
  std::string commit_of(const std::string& revision) const;
  void set_commit(const std::string& revision, const std::string& commit) const;

  // Files of a snapshot that are there in whole (a link to nothing is not), sorted.
  std::vector<std::string> files(const std::string& commit) const;
  // Makes the snapshot's name for a blob, replacing what was there. Throws Error(kIo).
  void link(const std::string& commit, const std::string& file, const std::string& etag) const;
  // Folders for blobs, locks and the cache's tag. Throws Error(kIo).
  void make_folders() const;

 private:
  std::string cache_, folder_, locks_;
};

// Held from construction to destruction; waits for another process that holds it, saying so. Throws Error(kIo, kInterrupted).
class FileLock {
 public:
  explicit FileLock(const std::string& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int fd_ = -1;
};

struct CachedRevision {
  std::string commit;
  std::vector<std::string> refs;   // "main"
  std::vector<std::string> files;
  uint64_t size_bytes = 0;         // of the files, each blob once
};

struct CachedRepo {
  std::string id, folder;
  std::vector<CachedRevision> revisions;
  uint64_t size_bytes = 0;        // of all blobs on disk
  uint64_t incomplete_bytes = 0;  // of downloads that broke off; part of size_bytes
};

// The models of a cache, by name. An empty list when there is no such folder.
std::vector<CachedRepo> list_cache(const std::string& cache);

}  // namespace tsubu
