// Opening safetensors by path: one file, or an index {"weight_map": {tensor: file}} with its shards. The index's
// "metadata" (total_size) is optional and not relied on: exporters disagree about it.
#include <filesystem>

#include "base/error.h"
#include "container/cursor.h"
#include "container/json_events.h"
#include "container/safetensors.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kIndexEnding = ".safetensors.index.json";
constexpr uint64_t kMaxIndexBytes = 100'000'000;

class IndexEvents final : public JsonEvents {
 public:
  explicit IndexEvents(const std::string& path) : path_(path) {}
  std::map<std::string, std::string> weight_map;
  bool found = false;

  void key(const std::string& name, int depth) override {
    if (depth == 1) {
      in_map_ = name == "weight_map";
      if (in_map_ && std::exchange(found, true)) bad("weight_map once", "it twice");
    } else if (depth == 2 && in_map_) {
      tensor_ = name;
    }
  }
  void string(const std::string& value, int depth) override {
    if (depth == 0 || (depth == 1 && in_map_)) bad("an object", "a string");
    if (depth != 2 || !in_map_) return;
    const bool has_separator = value.find_first_of(std::string_view("/\\\0", 3)) != value.npos;
    if (value.empty() || value == "." || value == ".." || has_separator)
      bad(fmt::format("the shard of '{}' to be a plain file name", printable(tensor_)), "'" + printable(value) + "'");
    if (!weight_map.emplace(tensor_, value).second)
      bad(fmt::format("'{}' once", printable(tensor_)), "it twice");
  }
  void number(uint64_t, int depth) override { refuse("a number", depth); }
  void other(std::string_view what, int depth) override { refuse(what, depth); }
  void open_object(int depth) override {
    if (depth >= 2) refuse("an object", depth);
  }
  void close_object(int) override {}
  void open_array(int depth) override { refuse("an array", depth); }
  void close_array(int) override {}

 private:
  void refuse(std::string_view what, int depth) const {
    if (depth == 0 || (depth == 1 && in_map_)) bad("an object", what);
    if (in_map_) bad(fmt::format("the shard of '{}' to be a file name", printable(tensor_)), what);
  }
  [[noreturn]] void bad(std::string_view expected, std::string_view found_instead) const {
    fail(ExitCode::kBadInput, "{}: weight_map: expected {}, found {} (get the index again)", path_, expected,
         found_instead);
  }

  const std::string& path_;
  bool in_map_ = false;
  std::string tensor_;
};

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::string& path) {
  std::error_code ec;
  if (fs::is_directory(path, ec)) {
    for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) {
      const fs::path candidate = fs::path(path) / name;
      if (fs::exists(candidate, ec)) return open(candidate.string());
    }
    fail(ExitCode::kBadInput, "{}: expected model.safetensors or model.safetensors.index.json in this directory, found "
         "neither (name the file itself if it is called otherwise)", path);
  }
  if (path.ends_with(kIndexEnding)) return open_index(path);
  MappedFile mapped(path);
  SafetensorsFile file = parse(mapped.bytes(), path);
  file.files_.push_back(std::move(mapped));
  return file;
}

void SafetensorsFile::add_shard(const std::string& path) {
  MappedFile mapped(path);
  SafetensorsFile shard = parse(mapped.bytes(), path);
  const auto number = static_cast<uint32_t>(paths_.size());
  paths_.push_back(path);
  file_bytes_ += shard.file_bytes_;
  metadata_.merge(shard.metadata_);
  files_.push_back(std::move(mapped));
  for (SafeTensor& tensor : shard.tensors_) {
    tensor.shard = number;
    add_tensor(std::move(tensor));
  }
}

SafetensorsFile SafetensorsFile::open_index(const std::string& path) {
  const std::string text = read_text_file(path, kMaxIndexBytes);
  IndexEvents events(path);
  parse_json_events(text, path, 0, events);
  if (!events.found) fail(ExitCode::kBadInput, "{}: expected a weight_map, found none (get the index again)", path);

  std::map<std::string, uint32_t> shards;  // in the order of their names
  for (const auto& [tensor, shard] : events.weight_map) shards.emplace(shard, 0);
  SafetensorsFile file;
  const fs::path folder = fs::path(path).parent_path();
  for (auto& [name, number] : shards) {
    const std::string shard_path = (folder / name).string();
    std::error_code ec;
    if (!fs::exists(shard_path, ec))
      fail(ExitCode::kBadInput, "{}: shard {} is missing: expected it beside the index, as weight_map says (get it, "
           "then try again)", path, shard_path);
    number = static_cast<uint32_t>(file.paths_.size());
    file.add_shard(shard_path);
  }
  for (const auto& [name, shard] : events.weight_map) {
    const SafeTensor* tensor = file.find(name);
    if (!tensor || tensor->shard != shards[shard])
      fail(ExitCode::kBadInput, "{}: tensor '{}': expected it in {}, found it {} (get index and shards again)", path,
           printable(name), printable(shard), tensor ? "in " + file.paths_[tensor->shard] : "in no shard");
  }
  return file;
}

}  // namespace tsubu
