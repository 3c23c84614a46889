// Manifests: how an output was made, as JSON beside it, so that it can be made again and checked. Nothing in one depends on
// the machine, the time or the number of threads: the same command on the same files writes the same manifest.
//   manifest           1, the version of this form
//   tsubu, command     the version, "quantize", "convert"
//   options            what was given on the command line, files by their names alone
//   inputs             model, adapters, texts, statistics, start: files with size and SHA-256
//   treatment          all that decides the bytes besides the inputs: recipe, overrides, rounding
//   treatment_sha256   of it, as one line; also in the GGUF's metadata
//   output             files with size and SHA-256
//   tensors            type, method and error of each
// The digests of inputs are computed in a thread of their own while the work runs.
#pragma once

#include <atomic>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/json.h"
#include "model/model.h"
#include "plan/recipe.h"

namespace tsubu {

struct CalibratedOptions;
struct QuantizeOptions;
struct QuantizeResult;

struct InputFile {
  std::string kind;  // "model", "adapter", "text", "statistics", "start"
  std::string path;
  uint64_t size_bytes = 0;
  std::string sha256;

  std::string name() const;  // without folders
};

// Digests of files, computed from construction on.
class InputDigests {
 public:
  explicit InputDigests(std::vector<InputFile> files);
  ~InputDigests();  // gives up what is not done
  InputDigests(const InputDigests&) = delete;
  InputDigests& operator=(const InputDigests&) = delete;
  // Throws what reading threw. By one thread at a time.
  const std::vector<InputFile>& wait();
  // Nobody wants them any more: wait() returns soon, with digests that mean nothing.
  void give_up() { stop_ = true; }

 private:
  std::vector<InputFile> files_;
  std::exception_ptr error_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// The files that a model is read from: weights, and of a directory its configuration and tokenizer files.
std::vector<InputFile> model_inputs(const Model& model, const std::string& kind = "model");
// One digest for all files of a kind: the file's own when it is one; of several that of the lines that sha256sum prints
// for them, in the order of their names. 64 zeros for none.
std::string combined_digest(const std::vector<InputFile>& files, std::string_view kind);

Json treatment_json(const Recipe& recipe, const QuantizeOptions& options, const std::vector<InputFile>& inputs);
std::string treatment_digest(const Json& treatment);

// Parts that all manifests have; output: the files that were written, relative to `folder`.
Json manifest_json(const std::string& command, const Json& options, const std::string& model_name,
                   const std::vector<InputFile>& inputs, const std::string& folder, const std::vector<std::string>& output);
Json manifest_json(const std::string& command, const Json& options, const Model& model, const QuantizeResult& result,
                   const std::string& output);

// "OUT.manifest.json".
std::string manifest_path(const std::string& output);
inline constexpr const char* kDirectoryManifest = "tsubu_manifest.json";

// A manifest as it is read. Throws Error(kBadInput / kIo).
Json read_manifest(const std::string& path);
bool is_manifest(const Json& json);

// What differs between two manifests that decides bytes: one line each. Empty: the same inputs, treatment and version.
std::vector<std::string> manifest_changes(const Json& before, const Json& now);

struct CheckedFile {
  std::string name, expected, found;  // SHA-256; found is empty when there is no such file
  uint64_t size_bytes = 0;            // as it should be
  bool ok() const { return expected == found; }
};
// Files of `list` ({name, size_bytes, sha256}) in a folder, hashed anew.
std::vector<CheckedFile> check_files(const Json& list, const std::string& folder);

}  // namespace tsubu
