// Command lines and manifests: which options are written into one, and the command line that a manifest stands for.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/command.h"
#include "pipeline/manifest.h"

namespace tsubu {

// Options that were given, {"--to": ["Q4_K_M"], "--text": ["calib.txt"]}: those that decide the output, files by name.
Json given_options(const CLI::App& app);

// The words that repeat a manifest's command on the model and output of `given`. Texts, statistics and the like are taken
// from given when it names them, else they are looked for beside the manifest and here. Throws Error(kUsage) for a file
// that is not found and for options of `given` that the manifest decides.
std::vector<std::string> repeated_words(const Json& manifest, const std::string& path, const CLI::App& given);

// What came of repeating a manifest.
struct Repetition {
  std::string manifest;              // its path
  std::vector<std::string> changes;  // of inputs, treatment, tensors; empty: the same
  bool same_bytes = false;
  // Inputs and treatment are the same, and yet the bytes are not.
  bool is_broken() const { return changes.empty() && !same_bytes; }
};
Repetition compare_repetition(const std::string& path, const Json& before, const Json& now);
std::string repetition_text(const Repetition& repetition);
Json to_json(const Repetition& repetition);

}  // namespace tsubu
