#include "pipeline/hf_writer.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/error.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kCopiedBytes = uint64_t{1} << 22;  // of the spill file between releases

bool is_companion(const fs::path& file) {
  const std::string name = file.filename().string(), extension = file.extension().string();
  for (const char* own : {"config.json", "quantize_config.json", "quant_config.json", "hf_quant_config.json", "tsubu.json", "tsubu_manifest.json",
                          "recipe.yaml"})
    if (name == own) return false;
  if (name.ends_with(".safetensors.index.json") || name.ends_with(".bin.index.json")) return false;
  for (const char* known : {".json", ".jsonl", ".model", ".jinja", ".tiktoken"})
    if (extension == known) return true;
  for (const char* known : {"merges.txt", "vocab.txt", "spiece.txt"})
    if (name == known) return true;
  return name.starts_with("LICENSE") || name.starts_with("LICENCE") || name.starts_with("NOTICE");
}

}  // namespace

HfWriter::HfWriter(const std::string& output) : output_(output), folder_(output) {
  while (folder_.size() > 1 && folder_.back() == '/') folder_.pop_back();
  output_ = folder_;
  folder_ += ".tsubu-part";
  std::error_code error;
  if (fs::exists(output_, error) && !(fs::is_directory(output_, error) && fs::is_empty(output_, error)))
    fail(ExitCode::kUsage, "{}: is there already: expected a new directory (choose another -o, or remove it)", output_);
  fs::remove_all(folder_, error);
  // As for a GGUF file: a folder that is not there is a wrong name more often than a wish.
  const fs::path parent = fs::path(output_).parent_path();
  if (!parent.empty() && !fs::is_directory(parent, error))
    fail(ExitCode::kIo, "{}: cannot create: there is no folder {} (make it first)", output_, parent.string());
  if (!fs::create_directory(folder_, error) || error)
    fail(ExitCode::kIo, "{}: cannot be made: {}", folder_, error ? error.message() : "it is there");
  spill_ = std::make_unique<AtomicFile>((fs::path(folder_) / "parts").string());
}

HfWriter::~HfWriter() {
  if (committed_) return;
  spill_.reset();
  std::error_code error;
  fs::remove_all(folder_, error);
}

void HfWriter::add(const std::string& name, SafeDtype dtype, std::vector<uint64_t> shape, std::span<const std::byte> bytes) {
  const uint64_t begin = spill_->size();
  spill_->write(bytes);
  parts_.push_back({name, dtype, std::move(shape), begin, spill_->size()});
}

void HfWriter::extend(std::span<const std::byte> bytes) {
  spill_->write(bytes);
  parts_.back().end = spill_->size();
}

std::vector<std::string> HfWriter::write_shards(uint64_t shard_bytes, const std::string& metadata_format) {
  spill_->commit();
  spill_.reset();
  const std::string spill_path = (fs::path(folder_) / "parts").string();
  std::vector<std::vector<const Part*>> shards(1);
  uint64_t filled = 0, total = 0;
  for (const Part& part : parts_) {
    const uint64_t size = part.end - part.begin;
    if (filled > 0 && filled + size > shard_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back(&part);
    filled += size;
    total += size;
  }
  std::vector<std::string> names;
  Json map = Json::object();
  std::map<std::string, std::string> shard_of;
  {
    const MappedFile spill(spill_path);
    for (size_t i = 0; i < shards.size(); ++i) {
      names.push_back(shards.size() == 1 ? "model.safetensors"
                                         : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size()));
      SafetensorsWriter writer((fs::path(folder_) / names.back()).string());
      if (!metadata_format.empty()) writer.set_metadata("tsubu", metadata_format);
      std::map<std::string_view, const Part*> by_name;
      for (const Part* part : shards[i]) {
        writer.declare(part->name, part->dtype, part->shape);
        by_name[part->name] = part;
        shard_of[part->name] = names.back();
      }
      for (const std::string& name : writer.begin_data()) {
        const Part& part = *by_name.at(name);
        for (uint64_t at = part.begin; at < part.end; at += kCopiedBytes) {
          const uint64_t n = std::min(kCopiedBytes, part.end - at);
          writer.write(spill.bytes().subspan(at, n));
          spill.release(at, n);
        }
      }
      writer.commit();
    }
  }
  std::error_code error;
  fs::remove(spill_path, error);
  if (shards.size() > 1) {
    for (const auto& [name, file] : shard_of) map[name] = file;
    write_json("model.safetensors.index.json", {{"metadata", {{"total_size", total}}}, {"weight_map", std::move(map)}});
  }
  return names;
}

void HfWriter::write_json(const std::string& name, const Json& json) {
  write_text_file((fs::path(folder_) / name).string(), dump_json(json));
}

std::vector<std::string> HfWriter::copy_companions(const std::string& source) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(source, error), end; !error && it != end; it.increment(error))
    if (it->is_regular_file(error) && is_companion(it->path())) names.push_back(it->path().filename().string());
  if (error) fail(ExitCode::kIo, "{}: cannot be listed: {}", source, error.message());
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    fs::copy_file(fs::path(source) / name, fs::path(folder_) / name, error);
    if (error) fail(ExitCode::kIo, "{}: cannot be copied to {}: {}", (fs::path(source) / name).string(), folder_, error.message());
  }
  return names;
}

void HfWriter::commit() {
  std::error_code error;
  fs::remove(output_, error);  // an empty directory
  fs::rename(folder_, output_, error);
  if (error) fail(ExitCode::kIo, "{}: cannot be renamed to {}: {}", folder_, output_, error.message());
  committed_ = true;
}

}  // namespace tsubu
