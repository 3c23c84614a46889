// A file of a model into the cache: resumed where an earlier try broke off, checked against its digest, then named.
#pragma once

#include "base/progress.h"
#include "hub/cache.h"
#include "hub/client.h"
#include "hub/repo.h"

namespace tsubu {

struct DownloadedFile {
  std::string name;
  uint64_t size_bytes = 0, fetched_bytes = 0, resumed_bytes = 0;  // fetched: over the network, now; resumed: were there
  std::string checked;  // "sha256", "git sha1", "size" (the server gave no digest)
};

// Leaves the file under its name in the snapshot. progress: advanced by bytes, those that were there already included.
// Throws Error: kIo (connection, space), kBadInput (bytes that are not those of the digest), kInterrupted; what came so
// far stays in the cache as NAME.incomplete.
DownloadedFile download_file(HubClient& client, const RepoCache& cache, const Repo& repo, RepoFile file, Progress& progress);

}  // namespace tsubu
