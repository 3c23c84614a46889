// What others have published: models of the hub by words, with the layout and the size that they really have.
#pragma once

#include <string>
#include <vector>

#include "hub/client.h"
#include "hub/repo.h"

namespace tsubu {

struct SearchOptions {
  std::string text;
  std::string layout;       // "gguf", "hf" (floats), or a quant_method: "gptq", "awq" …; empty: any
  uint64_t max_size = 0;    // bytes of what would be fetched; 0: any
  uint64_t limit = 20;      // models looked at, the most downloaded first
};

struct FoundFile {
  std::string name;         // what follows the ':' of a GGUF choice; empty: the directory
  std::string type;         // "Q4_K_M"; of a directory its scheme, when config.json says one: "4 bits, group 128"
  uint64_t size_bytes = 0;  // of the weights' files and what is fetched beside them
  double bits_per_weight = 0;  // 0: the hub does not know the number of weights
};

struct FoundModel {
  std::string id, commit, layout, last_modified, problem;  // problem: why it could not be looked at; else empty
  uint64_t downloads = 0, likes = 0, n_weights = 0;
  bool is_gated = false;
  std::vector<FoundFile> files;  // those within max_size
};

// Throws Error (HubClient). Models that fit neither layout nor size are left out; one that cannot be opened is kept with its
// problem.
std::vector<FoundModel> search_models(HubClient& client, const SearchOptions& options);

}  // namespace tsubu
