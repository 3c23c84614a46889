#include "checkpoint/quantization_config.h"

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "text/regex.h"

namespace tsubu {
namespace {

constexpr uint64_t kMaxConfigBytes = uint64_t{64} << 20;

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return text;
}

// The method that an object names, or that its keys give away.
std::string method_of(const Json& json) {
  for (const char* key : {"quant_method", "method"}) {
    const auto it = json.find(key);
    if (it != json.end() && it->is_string()) return lower(it->get<std::string>());
  }
  const auto has = [&](const char* key) { return json.contains(key); };
  if (has("load_in_4bit") || has("load_in_8bit")) return "bitsandbytes";
  if (has("config_groups")) return "compressed-tensors";
  if (has("quant_algo") || has("quantization")) return "modelopt";
  const auto version = json.find("version");
  if (version != json.end() && version->is_string() && lower(version->get<std::string>()).starts_with("gem")) return "awq";
  if (has("weight_block_size")) return "fp8";
  if (has("bits") && has("group_size")) return "gptq";
  return {};
}

const TypeInfo* model_type_of(const Json& config) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    const auto it = config.find(key);
    if (it == config.end() || !it->is_string()) continue;
    const auto name = it->get<std::string>();
    if (name == "float16") return find_type("F16");
    if (name == "bfloat16") return find_type("BF16");
    if (name == "float32") return find_type("F32");
  }
  const auto text = config.find("text_config");
  return text != config.end() && text->is_object() ? model_type_of(*text) : nullptr;
}

}  // namespace

QuantizationConfig read_quantization_config(const std::string& directory, const std::vector<std::string>& files,
                                            const Json& config, const std::string& config_path) {
  QuantizationConfig found;
  found.json = Json::object();
  found.model_type = model_type_of(config);
  const auto take = [&](const Json& json, const std::string& where) {
    if (!json.is_object()) fail(ExitCode::kBadInput, "{}: expected a JSON object", where);
    found.json = json;
    found.where = where;
    found.method = method_of(json);
  };
  for (const char* key : {"quantization_config", "compression_config"}) {
    const auto it = config.find(key);
    if (it == config.end() || it->is_null()) continue;
    take(*it, config_path + ": " + key);
    return found;
  }
  for (const char* name : {"quantize_config.json", "quant_config.json", "hf_quant_config.json"}) {
    if (std::find(files.begin(), files.end(), name) == files.end()) continue;
    const std::string path = (std::filesystem::path(directory) / name).string();
    take(parse_json(read_text_file(path, kMaxConfigBytes), path), path);
    if (found.method.empty()) found.method = std::string_view(name) == "hf_quant_config.json" ? "modelopt" : "";
    return found;
  }
  return found;
}

namespace {

// A class name has neither a dot nor an underscore.
bool is_class(const std::string& target) {
  return !target.starts_with("re:") && target.find_first_of("._") == std::string::npos;
}

// How exactly a group's targets mean the module: 3 by its name, 2 by an expression, 1 by its class, 0 not at all.
int match_of(const Json& group, const std::string& module) {
  const auto targets = group.find("targets");
  if (targets == group.end() || !targets->is_array()) return 1;
  int best = 0;
  for (const Json& t : *targets) {
    if (!t.is_string() || !matches_target(t.get<std::string>(), module)) continue;
    const auto target = t.get<std::string>();
    best = std::max(best, target == module ? 3 : is_class(target) ? 1 : 2);
  }
  return best;
}

}  // namespace

bool matches_target(const std::string& target, const std::string& module) {
  if (target.starts_with("re:")) {
    Regex::Scratch scratch;
    const auto match = Regex(target.substr(3)).find(module, 0, scratch);
    return match && match->begin == 0;
  }
  return target == module || is_class(target);
}

CtWeights compressed_tensors_weights(const QuantizationConfig& config, const std::string& module) {
  const auto groups = config.json.find("config_groups");
  if (groups == config.json.end() || !groups->is_object()) return {};
  const Json* weights = nullptr;
  int best = 0;
  for (const auto& [name, group] : groups->items()) {
    if (!group.is_object()) continue;
    const auto found = group.find("weights");
    if (found == group.end() || !found->is_object()) continue;
    if (const int match = match_of(group, module); match > best) {
      best = match;
      weights = &*found;
    }
  }
  if (!weights) return {};
  const auto uint = [&](const Json& json) -> uint64_t {
    return json.is_number_integer() && json.get<int64_t>() > 0 ? static_cast<uint64_t>(json.get<int64_t>()) : 0;
  };
  CtWeights r;
  if (weights->contains("num_bits")) r.num_bits = uint((*weights)["num_bits"]);
  if (weights->contains("group_size")) r.group_size = uint((*weights)["group_size"]);
  const auto block = weights->find("block_structure");
  if (block != weights->end() && block->is_array() && block->size() == 2) {
    r.block_rows = uint((*block)[0]);
    r.group_size = uint((*block)[1]);
  }
  return r;
}

}  // namespace tsubu
