// Hugging Face directories; see hf_directory.h.
#include "checkpoint/hf_directory.h"

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "checkpoint/quantization_config.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxConfigBytes = uint64_t{64} << 20;

bool is_pickle(const fs::path& file) {
  const std::string extension = file.extension().string();
  return extension == ".bin" || extension == ".pt" || extension == ".pth" || extension == ".ckpt" ||
         extension == ".pkl";
}

std::vector<std::string> file_names(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error))
    names.push_back(it->path().filename().string());
  if (error) fail(ExitCode::kIo, "{}: cannot be listed: {}", directory, error.message());
  std::sort(names.begin(), names.end());
  return names;
}

void check_files(const std::string& path, const std::vector<std::string>& names) {
  const auto has = [&](std::string_view name) { return std::find(names.begin(), names.end(), name) != names.end(); };
  const auto first_with = [&](auto&& test) {
    const auto it =
        std::find_if(names.begin(), names.end(), [&](const std::string& name) { return test(fs::path(name)); });
    return it == names.end() ? std::string() : *it;
  };
  const std::string gguf = first_with([](const fs::path& p) { return p.extension() == ".gguf"; });
  if (!has("config.json")) {
    if (!gguf.empty())
      fail(ExitCode::kBadInput, "{}: no config.json in this directory, but GGUF files: name one of them, such as {}",
           path, (fs::path(path) / gguf).string());
    fail(ExitCode::kBadInput, "{}: no config.json: expected a Hugging Face model directory", path);
  }
  if (has("model.safetensors") || has("model.safetensors.index.json")) return;
  const std::string other = first_with([](const fs::path& p) { return p.extension() == ".safetensors"; });
  if (!other.empty())
    fail(
        ExitCode::kBadInput,
        "{}: found {}, but neither model.safetensors nor model.safetensors.index.json, which says what the shards hold",
        path, other);
  const std::string pickle = first_with(is_pickle);
  if (!pickle.empty())
    fail(ExitCode::kUnsupported,
         "{}: the only weights are in {}, a Python pickle: reading one means running code out of it, so it is refused; "
         "get the model as safetensors, or convert it with safetensors' own converter",
         path, pickle);
  fail(ExitCode::kBadInput, "{}: no weights: expected model.safetensors or model.safetensors.index.json", path);
}

std::vector<std::string> architectures_of(const Json& config, const std::string& where) {
  std::vector<std::string> names;
  const auto it = config.find("architectures");
  if (it == config.end() || it->is_null()) return names;
  if (!it->is_array()) fail(ExitCode::kBadInput, "{}: architectures: expected a list of names", where);
  for (const Json& name : *it) {
    if (!name.is_string()) fail(ExitCode::kBadInput, "{}: architectures: expected a list of names", where);
    names.push_back(name.get<std::string>());
  }
  return names;
}

}  // namespace

HfDirectory HfDirectory::open(const std::string& path) {
  HfDirectory directory;
  directory.path = path;
  directory.config_path = (fs::path(path) / "config.json").string();
  const std::vector<std::string> names = file_names(path);
  check_files(path, names);
  directory.config = parse_json(read_text_file(directory.config_path, kMaxConfigBytes), directory.config_path);
  if (!directory.config.is_object()) fail(ExitCode::kBadInput, "{}: expected a JSON object", directory.config_path);
  directory.quantization = read_quantization_config(path, names, directory.config, directory.config_path);
  directory.architectures = architectures_of(directory.config, directory.config_path);
  directory.weights = SafetensorsFile::open(path);
  directory.quantized = find_quantized_modules(directory.weights, directory.quantization);
  return directory;
}

std::string HfDirectory::model_name() const {
  std::error_code error;
  fs::path absolute = fs::canonical(path, error);
  if (error) absolute = fs::path(path).lexically_normal();
  // The hub cache: models--org--name/snapshots/<commit>.
  const std::string repository = absolute.parent_path().parent_path().filename().string();
  if (absolute.parent_path().filename() == "snapshots" && repository.starts_with("models--")) {
    std::string name = repository.substr(8);
    if (const size_t at = name.find("--"); at != std::string::npos) name.replace(at, 2, "/");
    return name;
  }
  return absolute.filename().string();
}

const TypeInfo& type_of_tensor(const SafeTensor& tensor, const std::string& where) {
  const TypeInfo* type = nullptr;
  switch (tensor.dtype) {
    case SafeDtype::kF32:
      type = find_type("F32");
      break;
    case SafeDtype::kF16:
      type = find_type("F16");
      break;
    case SafeDtype::kBF16:
      type = find_type("BF16");
      break;
    default:
      break;
  }
  if (!type)
    fail(ExitCode::kUnsupported, "{}: tensor {}: dtype {} is not supported: expected F32, F16 or BF16", where,
         tensor.name, safe_dtype_name(tensor.dtype));
  return *type;
}

}  // namespace tsubu
