#include "hub/search.h"

#include <algorithm>

#include "base/error.h"
#include "base/progress.h"

namespace tsubu {
namespace {

std::string text_at(const Json& json, const char* key) {
  const auto it = json.find(key);
  return it != json.end() && it->is_string() ? it->get<std::string>() : "";
}

uint64_t number_at(const Json& json, const char* key) {
  const auto it = json.find(key);
  return it != json.end() && it->is_number_unsigned() ? it->get<uint64_t>() : 0;
}

const Json* object_at(const Json& json, const char* key) {
  const auto it = json.find(key);
  return it != json.end() && it->is_object() ? &*it : nullptr;
}

// "4 bits, group 128", as far as a quantization_config says it.
std::string scheme_of(const Json& config) {
  std::string text;
  uint64_t bits = number_at(config, "bits"), group = number_at(config, "group_size");
  if (bits == 0) bits = number_at(config, "w_bit");
  if (group == 0) group = number_at(config, "q_group_size");
  if (const std::string format = text_at(config, "format"); !format.empty()) text = format;
  for (const char* flag : {"load_in_4bit", "load_in_8bit"})
    if (const auto it = config.find(flag); it != config.end() && it->is_boolean() && it->get<bool>()) bits = flag[8] == '4' ? 4 : 8;
  if (const Json* groups = object_at(config, "config_groups"))
    for (const auto& [name, g] : groups->items())
      if (const Json* weights = g.is_object() ? object_at(g, "weights") : nullptr) {
        if (bits == 0) bits = number_at(*weights, "num_bits");
        if (group == 0) group = number_at(*weights, "group_size");
      }
  if (bits > 0) text += fmt::format("{}{} bits", text.empty() ? "" : ", ", bits);
  if (group > 0) text += fmt::format("{}group {}", text.empty() ? "" : ", ", group);
  return text;
}

void look_at_directory(HubClient& client, const Repo& repo, FoundModel& model) {
  const Json config = parse_json(client.get_text(file_path(repo, "config.json"), repo.id), repo.id + "/config.json");
  FoundFile found;
  model.layout = "hf";
  if (const Json* quantization = config.is_object() ? object_at(config, "quantization_config") : nullptr) {
    model.layout = text_at(*quantization, "quant_method");
    if (model.layout.empty()) model.layout = "quantized";
    found.type = scheme_of(*quantization);
  } else {
    for (const char* own : {"quantize_config.json", "quant_config.json"})  // as older tools wrote them
      if (repo.find(own)) {
        const Json json = parse_json(client.get_text(file_path(repo, own), repo.id), repo.id + "/" + own);
        model.layout = std::string_view(own) == "quant_config.json" ? "awq" : "gptq";
        found.type = json.is_object() ? scheme_of(json) : "";
      }
    if (config.is_object() && found.type.empty()) {
      found.type = text_at(config, "torch_dtype");
      if (found.type.empty()) found.type = text_at(config, "dtype");
    }
  }
  const bool has_index = repo.find(kIndexName) && !repo.find("model.safetensors");
  const std::string index = has_index ? client.get_text(file_path(repo, kIndexName), repo.id) : "";
  for (const std::string& file : weight_files(repo, index)) found.size_bytes += repo.find(file)->size_bytes;
  for (const RepoFile& file : repo.files)
    if (is_side_file(file.name)) found.size_bytes += file.size_bytes;
  model.files.push_back(std::move(found));
}

void look_at(HubClient& client, const std::string& id, FoundModel& model) {
  const Json json = client.get_json(fmt::format("/api/models/{}?blobs=true", id), id);
  const Repo repo = repo_from_json(json, id, "main", id);
  model.commit = repo.commit;
  switch (kind_of(repo)) {
    case RepoKind::kSafetensors:
      look_at_directory(client, repo, model);
      break;
    case RepoKind::kPickle:
      model.layout = "pickle";
      model.problem = "only Python pickles, which are refused";
      break;
    case RepoKind::kNone:
      model.problem = "no weights that tsubu reads";
      break;
    case RepoKind::kGguf:
      model.layout = "gguf";
      break;
  }
  if (const Json* gguf = object_at(json, "gguf")) model.n_weights = number_at(*gguf, "total");
  if (model.layout == "hf")
    if (const Json* safetensors = object_at(json, "safetensors")) model.n_weights = number_at(*safetensors, "total");
  for (GgufChoice& choice : gguf_choices(repo.files)) {
    if (model.layout != "gguf") break;
    model.files.push_back({choice.files.front(), choice.type, choice.size_bytes, 0});
  }
  for (FoundFile& file : model.files)
    if (model.n_weights > 0) file.bits_per_weight = 8.0 * static_cast<double>(file.size_bytes) / static_cast<double>(model.n_weights);
}

}  // namespace

std::vector<FoundModel> search_models(HubClient& client, const SearchOptions& options) {
  std::string path = fmt::format("/api/models?search={}&limit={}&sort=downloads&direction=-1", percent_encode(options.text, false),
                                 options.limit);
  if (!options.layout.empty() && options.layout != "hf") path += "&filter=" + percent_encode(options.layout, false);
  const Json list = client.get_json(path, "search");
  if (!list.is_array()) fail(ExitCode::kBadInput, "{}/api/models: expected a list of models", client.environment().endpoint);
  std::vector<FoundModel> found;
  Progress progress("look at", std::min<uint64_t>(list.size(), options.limit), "models");
  for (const Json& item : list) {
    if (found.size() >= options.limit || !item.is_object()) break;
    throw_if_interrupted();
    FoundModel model;
    model.id = text_at(item, "id");
    if (model.id.empty()) model.id = text_at(item, "modelId");
    model.downloads = number_at(item, "downloads");
    model.likes = number_at(item, "likes");
    model.last_modified = text_at(item, "lastModified");
    if (const auto gated = item.find("gated"); gated != item.end()) model.is_gated = gated->is_string() || (gated->is_boolean() && gated->get<bool>());
    try {
      hub_name_of(model.id);
      look_at(client, model.id, model);
    } catch (const Error& error) {
      if (error.code() == ExitCode::kInterrupted) throw;
      model.problem = error.what();
    }
    progress.advance(1, model.id);
    if (!options.layout.empty() && model.layout != options.layout && (model.problem.empty() || !model.layout.empty())) continue;
    if (options.max_size > 0) {
      std::erase_if(model.files, [&](const FoundFile& f) { return f.size_bytes > options.max_size; });
      if (model.files.empty() && model.problem.empty()) continue;
    }
    found.push_back(std::move(model));
  }
  progress.finish();
  return found;
}

}  // namespace tsubu
