// A model of the hub as a path here: from the cache when all of it is there, else fetched.
#pragma once

#include <string>
#include <vector>

#include "hub/download.h"
#include "hub/name.h"

namespace tsubu {

struct HubModel {
  std::string id, revision, commit;
  std::string path;     // what opens it: the snapshot's folder, or a GGUF file (the first shard)
  std::vector<DownloadedFile> files;
  std::vector<std::pair<std::string, std::string>> left_out;  // file, why
  bool is_cached = false;  // nothing was asked of the hub
};

// What the cache alone gives: the whole model at the commit that the revision was when it was fetched. An empty path when
// something is missing.
HubModel cached_model(const HubEnvironment& environment, const HubName& name);

// Asks the hub for the revision's commit and fetches what is missing of it. Throws Error (HubClient, download_file).
HubModel fetch_model(const HubEnvironment& environment, const HubName& name);

// The path of a MODEL argument: itself when it is a path, else from the cache, else fetched. Throws Error(kIo) when it is
// not in the cache and the environment says offline.
std::string model_path(const std::string& text);

}  // namespace tsubu
