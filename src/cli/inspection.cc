#include "cli/inspection.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/checked.h"
#include "base/error.h"
#include "checkpoint/hf_directory.h"
#include "checkpoint/quantization_config.h"
#include "checkpoint/quantized_modules.h"
#include "container/gguf.h"
#include "container/safetensors.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

uint64_t element_count(const std::vector<uint64_t>& shape, const std::string& name) {
  const auto n = checked_product(shape);
  if (!n) fail(ExitCode::kBadInput, "tensor {}: its number of elements does not fit 64 bits", name);
  return *n;
}

void add_file(Inspection& inspection, const std::string& path) {
  std::error_code ec;
  const uint64_t size = fs::file_size(path, ec);
  if (ec) fail(ExitCode::kIo, "{}: cannot read its size: {}", path, ec.message());
  inspection.files.push_back({path, size});
  inspection.size_bytes += size;
}

void add_tensor(Inspection& inspection, InspectedTensor tensor) {
  tensor.n_elements = element_count(tensor.shape, tensor.name);
  inspection.n_weights += tensor.n_elements;
  inspection.tensors.push_back(std::move(tensor));
}

std::string text_value(const Json& json, const std::string& key) {
  const auto it = json.find(key);
  return it != json.end() && it->is_string() ? it->get<std::string>() : "";
}

Inspection inspect_gguf(const std::string& path) {
  const GgufFile file = GgufFile::open(path);
  Inspection inspection;
  inspection.path = path;
  inspection.layout = "gguf";
  inspection.version = file.version();
  inspection.metadata = file.metadata().to_json();
  for (const std::string& shard : file.paths()) add_file(inspection, shard);

  // Data begins where the first tensor of a shard does; what is before it is metadata.
  std::vector<uint64_t> data_start;
  for (const InspectedFile& f : inspection.files) data_start.push_back(f.size_bytes);
  for (const GgufTensor& tensor : file.tensors()) {
    add_tensor(inspection, {tensor.name, std::string(tensor.type->name), tensor.shape, 0, tensor.data.size()});
    if (tensor.shard < data_start.size()) data_start[tensor.shard] = std::min(data_start[tensor.shard], tensor.offset);
  }
  inspection.data_bytes = inspection.size_bytes;
  for (uint64_t start : data_start) inspection.data_bytes -= start;

  inspection.architecture = text_value(inspection.metadata, "general.architecture");
  inspection.name = text_value(inspection.metadata, "general.name");
  inspection.hyper_parameters = Json::object();
  for (const auto& [key, value] : inspection.metadata.items())
    if (key.starts_with(inspection.architecture + ".")) inspection.hyper_parameters[key] = value;
  return inspection;
}

std::vector<std::string> file_names(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.push_back(entry.path().filename().string());
  return names;
}

Inspection inspect_directory(const std::string& path) {
  const std::string config_path = (fs::path(path) / "config.json").string();
  if (!fs::exists(config_path))
    fail(ExitCode::kBadInput, "{}: expected a Hugging Face directory, found no config.json in it", path);
  Inspection inspection;
  inspection.path = path;
  inspection.layout = "hf";
  inspection.metadata = parse_json(read_text_file(config_path, uint64_t{1} << 26), config_path);
  const SafetensorsFile file = SafetensorsFile::open(path);
  for (const std::string& shard : file.paths()) add_file(inspection, shard);
  // The parts of a quantized module are one tensor: its weight.
  const QuantizationConfig config =
      read_quantization_config(path, file_names(path), inspection.metadata, config_path);
  const QuantizedModules modules = find_quantized_modules(file, config);
  std::map<std::string_view, const std::pair<const std::string, QuantizedModule>*> first_part;
  for (const auto& module : modules.by_name) first_part[module.second.matrix->parts().front()->name] = &module;
  for (const SafeTensor& tensor : file.tensors()) {
    inspection.data_bytes += tensor.data.size();
    if (const auto module = first_part.find(tensor.name); module != first_part.end()) {
      const auto& [name, quantized] = *module->second;
      const QuantMatrix& m = *quantized.matrix;
      add_tensor(inspection, {name + ".weight", fmt::format("{} {}", quantized.layout->name, m.kind()),
                              {m.n_rows(), m.n_cols()}, 0, m.size_bytes()});
    } else if (!modules.parts.contains(tensor.name)) {
      add_tensor(inspection, {tensor.name, std::string(safe_dtype_name(tensor.dtype)), tensor.shape, 0, tensor.data.size()});
    }
  }
  if (!modules.by_name.empty()) inspection.layout = modules.layout_names();
  inspection.hyper_parameters = Json::object();
  for (const auto& [key, value] : inspection.metadata.items())
    if (value.is_primitive() && !value.is_null()) inspection.hyper_parameters[key] = value;
  const auto names = inspection.metadata.find("architectures");
  if (names != inspection.metadata.end() && names->is_array() && !names->empty() && names->front().is_string())
    inspection.architecture = names->front().get<std::string>();
  HfDirectory directory;
  directory.path = path;
  inspection.name = directory.model_name();
  return inspection;
}

double bits_each(uint64_t bytes, uint64_t n) { return n == 0 ? 0 : 8.0 * static_cast<double>(bytes) / static_cast<double>(n); }

}  // namespace

double TypeShare::bits_per_weight() const { return bits_each(size_bytes, n_weights); }
double Inspection::bits_per_weight() const { return bits_each(data_bytes, n_weights); }

std::vector<TypeShare> Inspection::types() const {
  std::map<std::string, TypeShare> by_name;
  for (const InspectedTensor& tensor : tensors) {
    TypeShare& share = by_name[tensor.type];
    share.type = tensor.type;
    ++share.n_tensors;
    share.n_weights += tensor.n_elements;
    share.size_bytes += tensor.size_bytes;
  }
  std::vector<TypeShare> shares;
  for (const auto& entry : by_name) shares.push_back(entry.second);
  std::stable_sort(shares.begin(), shares.end(),
                   [](const TypeShare& a, const TypeShare& b) { return a.size_bytes > b.size_bytes; });
  return shares;
}

Inspection inspect(const std::string& path) {
  return fs::is_directory(path) ? inspect_directory(path) : inspect_gguf(path);
}

Json to_json(const Inspection& inspection) {
  Json json;
  json["path"] = inspection.path;
  json["layout"] = inspection.layout;
  if (inspection.layout == "gguf") json["version"] = inspection.version;
  json["architecture"] = inspection.architecture;
  json["name"] = inspection.name;
  json["size_bytes"] = inspection.size_bytes;
  json["metadata_bytes"] = inspection.size_bytes - inspection.data_bytes;
  json["n_weights"] = inspection.n_weights;
  json["n_tensors"] = inspection.tensors.size();
  json["bits_per_weight"] = inspection.bits_per_weight();
  json["files"] = Json::array();
  for (const InspectedFile& file : inspection.files)
    json["files"].push_back(Json{{"path", file.path}, {"size_bytes", file.size_bytes}});
  json["types"] = Json::array();
  for (const TypeShare& share : inspection.types())
    json["types"].push_back(Json{{"type", share.type},
                                 {"n_tensors", share.n_tensors},
                                 {"n_weights", share.n_weights},
                                 {"size_bytes", share.size_bytes},
                                 {"bits_per_weight", share.bits_per_weight()}});
  json["hyper_parameters"] = inspection.hyper_parameters;
  json["metadata"] = inspection.metadata;
  json["tensors"] = Json::array();
  for (const InspectedTensor& tensor : inspection.tensors)
    json["tensors"].push_back(
        Json{{"name", tensor.name}, {"type", tensor.type}, {"shape", tensor.shape}, {"size_bytes", tensor.size_bytes}});
  return json;
}

}  // namespace tsubu
