// A model on the hub: its files with sizes and digests, and which of them tsubu takes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "hub/client.h"
#include "hub/name.h"

namespace tsubu {

struct RepoFile {
  std::string name;   // relative path, checked
  uint64_t size_bytes = 0;
  std::string etag;   // SHA-256 of a large file, git's blob name of a small one; empty: the listing did not say
};

struct Repo {
  std::string id, revision, commit;
  std::vector<RepoFile> files;

  const RepoFile* find(const std::string& name) const;
};

// Asks the hub. Throws Error (see HubClient), kBadInput for an answer that cannot be.
Repo fetch_repo(HubClient& client, const std::string& id, const std::string& revision);
Repo repo_from_json(const Json& json, const std::string& id, const std::string& revision, const std::string& where);

// The path of a file's bytes below the endpoint.
std::string file_path(const Repo& repo, const std::string& file);

// GGUF files that belong together: one, or the shards of one model.
struct GgufChoice {
  std::string name;                // of the file without "-00001-of-00003.gguf" or ".gguf", with its folder
  std::string type;                // the type that the name ends with ("Q4_K_M"); empty: none
  std::vector<std::string> files;  // in the order of the shards
  uint64_t size_bytes = 0;
};
// Projectors ("mmproj") and importance matrices are left out: they are no models.
std::vector<GgufChoice> gguf_choices(const std::vector<RepoFile>& files);
// The one that `choice` means: a file's name, or a type anywhere in the name, whatever its case; "" means the only one.
// Throws Error(kUsage) that lists what there is.
const GgufChoice& choose_gguf(const std::vector<GgufChoice>& choices, const HubName& name);

// Config, tokenizer and other JSON files beside the weights of a Hugging Face directory, at its top.
bool is_side_file(const std::string& name);
bool is_pickle_file(const std::string& name);

// How a model's weights are stored, from the files' names.
enum class RepoKind { kGguf, kSafetensors, kPickle, kNone };
RepoKind kind_of(const Repo& repo);

// The weights of a Hugging Face directory: model.safetensors, else the shards that the index names. `index`: the text of
// model.safetensors.index.json, or empty when there is none. Throws Error(kUnsupported, kBadInput) with the reason.
std::vector<std::string> weight_files(const Repo& repo, const std::string& index);

inline constexpr const char* kIndexName = "model.safetensors.index.json";

}  // namespace tsubu
