#include "pipeline/rounded_store.h"

#include <filesystem>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"

namespace tsubu {
namespace fs = std::filesystem;

namespace {

constexpr const char* kKeyFile = "key.json";
constexpr uint64_t kMaxEntryBytes = 1 << 16;

}  // namespace

RoundedStore::RoundedStore(const std::string& output, const std::string& key) : folder_(folder(output)) {
  std::error_code error;
  const std::string key_path = folder_ + "/" + kKeyFile;
  const std::string wanted = dump_json(Json{{"key", key}});
  if (fs::exists(folder_, error)) {
    if (!fs::exists(key_path, error) || read_text_file(key_path, kMaxEntryBytes) != wanted)
      fs::remove_all(folder_, error);
  }
  fs::create_directory(folder_, error);  // the output's own folder must be there, as for every output
  if (error)
    fail(ExitCode::kIo, "{}: cannot make the folder for work in progress: {} (is the output's folder there?)", folder_,
         error.message());
  if (!fs::exists(key_path, error)) write_text_file(key_path, wanted);
  for (const auto& entry : fs::directory_iterator(folder_, error)) {
    const fs::path path = entry.path();
    if (path.extension() != ".entry") continue;
    const Json json = parse_json(read_text_file(path.string(), kMaxEntryBytes), path.string());
    fs::path rows = path;
    rows.replace_extension(".rows");
    const std::string name = json.at("name").get<std::string>();
    MappedFile& file = files_[name] = MappedFile(rows.string());
    if (hash_bytes(file.bytes()) != json.at("hash").get<std::string>())
      fail(ExitCode::kBadInput, "{}: its contents do not match its entry (remove the folder to start anew)",
           rows.string());
    tensors_[name] = {file.bytes(), json.at("method").get<std::string>(), json.at("error").get<double>(),
                      json.at("search_error").get<double>(), true};
    ++n_resumed_;
  }
}

RoundedStore::~RoundedStore() {
  if (tensors_.empty()) remove();
}

const RoundedTensor* RoundedStore::find(const std::string& name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

const RoundedTensor& RoundedStore::put(const std::string& name, std::span<const std::byte> bytes,
                                       const std::string& method, double error, double search_error) {
  const std::string base = folder_ + "/" + std::to_string(tensors_.size());
  AtomicFile rows(base + ".rows");
  rows.write(bytes);
  rows.commit();
  write_text_file(base + ".entry", dump_json(Json{{"name", name},
                                                  {"method", method},
                                                  {"error", error},
                                                  {"search_error", search_error},
                                                  {"hash", hash_bytes(bytes)}}));
  MappedFile& file = files_[name] = MappedFile(base + ".rows");
  return tensors_[name] = {file.bytes(), method, error, search_error, false};
}

void RoundedStore::remove() {
  tensors_.clear();
  files_.clear();
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

}  // namespace tsubu
