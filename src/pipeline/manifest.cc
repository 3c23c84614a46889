#include "pipeline/manifest.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "base/digest.h"
#include "base/error.h"
#include "base/file.h"
#include "kernel/kernels.h"
#include "pipeline/quantize.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

constexpr int kForm = 1;
constexpr size_t kListedTensors = 5;

bool is_model_side_file(const std::string& name) {
  if (name == kDirectoryManifest || name == "tsubu.json" || name.ends_with(".manifest.json") || name.ends_with(".bin.index.json")) return false;
  for (std::string_view ending : {".json", ".model", ".jinja", ".tiktoken"})
    if (name.ends_with(ending)) return true;
  return name == "merges.txt" || name == "vocab.txt";
}

Json files_json(const std::vector<InputFile>& files, std::string_view kind) {
  Json list = Json::array();
  for (const InputFile& f : files)
    if (f.kind == kind) list.push_back({{"name", f.name()}, {"size_bytes", f.size_bytes}, {"sha256", f.sha256}});
  return list;
}

const Json& at(const Json& json, const char* key) {
  static const Json kNothing;
  const auto it = json.is_object() ? json.find(key) : json.end();
  return json.is_object() && it != json.end() ? *it : kNothing;
}

std::string text(const Json& json) { return json.is_string() ? json.get<std::string>() : json.dump(-1, ' ', false, Json::error_handler_t::replace); }

// By name: digest of each file of a list.
std::map<std::string, std::string> digests(const Json& list) {
  std::map<std::string, std::string> found;
  if (!list.is_array()) return found;
  for (const Json& f : list) found[text(at(f, "name"))] = text(at(f, "sha256"));
  return found;
}

void compare_files(const std::string& what, const Json& before, const Json& now, std::vector<std::string>& changes) {
  const auto a = digests(before), b = digests(now);
  std::multiset<std::string> bytes_a, bytes_b;
  for (const auto& [name, sha] : a) bytes_a.insert(sha);
  for (const auto& [name, sha] : b) bytes_b.insert(sha);
  if (bytes_a == bytes_b && a != b) {
    changes.push_back(what + ": the same bytes under other names");
    return;
  }
  for (const auto& [name, sha] : a) {
    const auto same = b.find(name);
    if (same == b.end())
      changes.push_back(fmt::format("{}: {} is gone", what, name));
    else if (same->second != sha)
      changes.push_back(fmt::format("{}: {} has other bytes ({} → {})", what, name, sha.substr(0, 12), same->second.substr(0, 12)));
  }
  for (const auto& [name, sha] : b)
    if (!a.contains(name)) changes.push_back(fmt::format("{}: {} is new", what, name));
}

std::string listed(const std::vector<std::string>& names) {
  std::string list;
  for (size_t i = 0; i < std::min(names.size(), kListedTensors); ++i) list += (i ? ", " : "") + names[i];
  return names.size() > kListedTensors ? list + fmt::format(" and {} more", names.size() - kListedTensors) : list;
}

void compare_tensors(const Json& before, const Json& now, std::vector<std::string>& changes) {
  std::map<std::string, const Json*> a, b;
  for (const Json& t : before) a[text(at(t, "name"))] = &t;
  for (const Json& t : now) b[text(at(t, "name"))] = &t;
  std::vector<std::string> gone, added, shapes, types;
  for (const auto& [name, t] : a) {
    const auto same = b.find(name);
    if (same == b.end())
      gone.push_back(name);
    else if (at(*t, "shape") != at(*same->second, "shape"))
      shapes.push_back(fmt::format("{} {} → {}", name, at(*t, "shape").dump(), at(*same->second, "shape").dump()));
    else if (at(*t, "type") != at(*same->second, "type"))
      types.push_back(fmt::format("{} {} → {}", name, text(at(*t, "type")), text(at(*same->second, "type"))));
  }
  for (const auto& [name, t] : b)
    if (!a.contains(name)) added.push_back(name);
  const auto say = [&](const char* what, const std::vector<std::string>& names) {
    if (!names.empty()) changes.push_back(fmt::format("{} {} {}: {}", names.size(), names.size() == 1 ? "tensor" : "tensors", what, listed(names)));
  };
  say("gone", gone);
  say("new", added);
  say("of another shape", shapes);
  say("of another type", types);
}

}  // namespace

std::string InputFile::name() const { return fs::path(path).filename().string(); }

InputDigests::InputDigests(std::vector<InputFile> files) : files_(std::move(files)) {
  thread_ = std::thread([this] {
    try {
      for (InputFile& file : files_) {
        FileDigest digest = digest_file(file.path, &stop_);
        file.size_bytes = digest.size_bytes;
        file.sha256 = std::move(digest.sha256);
      }
    } catch (...) {
      error_ = std::current_exception();
    }
  });
}

InputDigests::~InputDigests() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

const std::vector<InputFile>& InputDigests::wait() {
  if (thread_.joinable()) thread_.join();
  if (error_) std::rethrow_exception(error_);
  return files_;
}

std::vector<InputFile> model_inputs(const Model& model, const std::string& kind) {
  std::vector<InputFile> inputs;
  for (const std::string& file : model.files()) inputs.push_back({kind, file, 0, ""});
  std::error_code error;
  if (fs::is_directory(model.path(), error))
    for (fs::directory_iterator it(model.path(), error), end; !error && it != end; it.increment(error))
      if (std::error_code ignored; it->is_regular_file(ignored) && is_model_side_file(it->path().filename().string()))
        inputs.push_back({kind, it->path().string(), 0, ""});
  std::sort(inputs.begin(), inputs.end(), [](const InputFile& a, const InputFile& b) { return a.path < b.path; });
  for (const std::string& file : model.adapter_files()) inputs.push_back({"adapter", file, 0, ""});
  return inputs;
}

std::string combined_digest(const std::vector<InputFile>& files, std::string_view kind) {
  std::map<std::string, std::string> by_name;
  for (const InputFile& f : files)
    if (f.kind == kind) by_name[f.name()] = f.sha256;
  if (by_name.empty()) return std::string(64, '0');
  if (by_name.size() == 1) return by_name.begin()->second;
  std::string lines;
  for (const auto& [name, sha] : by_name) lines += fmt::format("{}  {}\n", sha, name);
  return sha256_of(lines);
}

Json treatment_json(const Recipe& recipe, const QuantizeOptions& o, const std::vector<InputFile>& inputs) {
  Json json;
  json["recipe"] = to_json(recipe);
  for (const InputFile& f : inputs)
    if (f.kind == "adapter") json["adapters"].push_back({{"sha256", f.sha256}});
  if (o.plan.pure) json["pure"] = true;
  if (o.plan.keep_output) json["keep_output"] = true;
  if (!o.plan.output_type.empty()) json["output_type"] = o.plan.output_type;
  if (!o.plan.embedding_type.empty()) json["embedding_type"] = o.plan.embedding_type;
  if (!o.plan.fallback.empty()) json["fallback"] = o.plan.fallback;
  for (const TypeOverride& t : o.plan.overrides) json["overrides"].push_back({{"pattern", t.pattern}, {"type", t.type}});
  if (!o.transform.is_null()) json["transform"] = o.transform;
  if (o.stats) json["statistics"] = combined_digest(inputs, "statistics");
  if (o.corpus) {
    json["text"] = {{"context", o.corpus->context}, {"chunks", o.corpus->chunks.size()}, {"sources", Json::array()}};
    for (const InputFile& f : inputs)
      if (f.kind == "text") json["text"]["sources"].push_back({{"sha256", f.sha256}});
    for (size_t i = 0; i < std::min(o.corpus->sources.size(), json["text"]["sources"].size()); ++i) {
      json["text"]["sources"][i]["weight"] = o.corpus->sources[i].weight;
      json["text"]["sources"][i]["chunks"] = o.corpus->sources[i].n_chunks;
    }
  }
  if (o.corpus || o.statistics) {
    const CalibratedOptions& c = o.calibrated;
    Json r{{"damping", c.damping},
           {"feedback", c.round.feedback},
           {"choose_scales", c.round.choose_scales},
           {"descent_passes", c.round.descent_passes}};
    if (o.corpus) {
      r["asymmetric"] = c.asymmetric;
      r["residual"] = c.residual;
      r["residual_share"] = c.residual_share;
      r["embeddings"] = c.embeddings;
      r["embedding_damping"] = c.embedding_damping;
      r["held_out"] = c.held_out;
      r["products"] = c.products == Products::kBf16 ? fmt::format("bf16 {}", kernels().isa) : "f32";
      if (!c.expert_feedback) r["expert_feedback"] = false;
      if (!c.expert_weights) r["expert_weights"] = false;
      if (c.expert_memory != CalibratedOptions().expert_memory) r["expert_memory"] = c.expert_memory;
      if (c.fisher_tokens > 0)
        r["coupled"] = {{"tokens", c.fisher_tokens},      {"seed", c.fisher_seed},        {"memory", c.fisher_memory},
                        {"rows", c.fisher_rows},          {"damping", c.fisher_damping},  {"sweeps", c.coupled.sweeps},
                        {"group_rows", c.coupled.group_rows}};
      if (c.scales)
        r["scales"] = {{"epochs", c.scales->epochs},         {"rate", c.scales->rate}, {"code_rate", c.scales->code_rate},
                       {"code_memory", c.scales->code_memory},
                       {"step_tokens", c.scales->tokens_per_step}, {"tokens", c.scales->max_tokens},
                       {"judged_tokens", c.scales->judged_tokens}};
      if (c.start) r["start"] = combined_digest(inputs, "start");
    }
    if (o.statistics && c.fisher_tokens > 0 && o.statistics->output_block_rows() > 0)
      r["coupled"] = {{"damping", c.fisher_damping}, {"sweeps", c.coupled.sweeps}, {"group_rows", c.coupled.group_rows}};
    json["rounding"] = std::move(r);
  }
  if (o.trained) json["training"] = o.trained->treatment;
  return json;
}

std::string treatment_digest(const Json& treatment) { return sha256_of(treatment.dump(-1, ' ', false, Json::error_handler_t::replace)); }

Json manifest_json(const std::string& command, const Json& options, const std::string& model_name, const std::vector<InputFile>& inputs,
                   const std::string& folder, const std::vector<std::string>& output) {
  Json json;
  json["manifest"] = kForm;
  json["tsubu"] = TSUBU_VERSION;
  json["command"] = command;
  json["options"] = options;
  json["inputs"]["model"] = {{"name", model_name}, {"sha256", combined_digest(inputs, "model")}, {"files", files_json(inputs, "model")}};
  for (const auto& [kind, key] : {std::pair("text", "texts"), std::pair("statistics", "statistics"), std::pair("start", "start"),
                                  std::pair("adapter", "adapters")})
    if (Json list = files_json(inputs, kind); !list.empty()) json["inputs"][key] = std::move(list);
  json["output"] = Json::array();
  for (const std::string& name : output) {
    const FileDigest digest = digest_file((fs::path(folder) / name).string());
    json["output"].push_back({{"name", name}, {"size_bytes", digest.size_bytes}, {"sha256", digest.sha256}});
  }
  return json;
}

Json manifest_json(const std::string& command, const Json& options, const Model& model, const QuantizeResult& result,
                   const std::string& output) {
  const GgufValue* name = model.gguf_metadata().find("general.name");
  const auto* given = name ? std::get_if<std::string>(&name->value) : nullptr;
  const fs::path path(output);
  Json json = manifest_json(command, options, result.model_name.empty() && given ? *given : result.model_name, result.inputs,
                            path.has_parent_path() ? path.parent_path().string() : ".",
                            result.output_sha256.empty() ? std::vector<std::string>{path.filename().string()} : std::vector<std::string>{});
  if (!result.output_sha256.empty())
    json["output"].push_back({{"name", path.filename().string()}, {"size_bytes", result.size_bytes}, {"sha256", result.output_sha256}});
  json["treatment"] = result.treatment;
  json["treatment_sha256"] = treatment_digest(result.treatment);
  json["bits_per_weight"] = result.bits_per_weight;
  json["tensors"] = Json::array();
  for (const QuantizedTensor& t : result.tensors) {
    Json item{{"name", t.name}, {"shape", t.shape}, {"type", t.type}, {"source_type", t.source_type}, {"size_bytes", t.size_bytes},
              {"method", t.method}, {"rel_rmse", t.rel_rmse}, {"reason", t.reason}};
    json["tensors"].push_back(std::move(item));
  }
  return json;
}

std::string manifest_path(const std::string& output) { return output + ".manifest.json"; }

bool is_manifest(const Json& json) { return json.is_object() && json.contains("manifest"); }

Json read_manifest(const std::string& path) {
  Json json = parse_json(read_text_file(path, uint64_t{1} << 28), path);
  if (!is_manifest(json)) fail(ExitCode::kBadInput, "{}: expected a manifest that tsubu wrote (it has a key \"manifest\")", path);
  if (json["manifest"] != kForm) fail(ExitCode::kUnsupported, "{}: a manifest of form {}: expected {} (made by a newer tsubu?)", path, json["manifest"].dump(), kForm);
  for (const char* key : {"options", "inputs"})
    if (!at(json, key).is_object()) fail(ExitCode::kBadInput, "{}: {}: expected an object", path, key);
  if (!at(at(at(json, "inputs"), "model"), "files").is_array()) fail(ExitCode::kBadInput, "{}: inputs.model.files: expected a list", path);
  if (!at(json, "output").is_array()) fail(ExitCode::kBadInput, "{}: output: expected a list of files", path);
  return json;
}

std::vector<std::string> manifest_changes(const Json& before, const Json& now) {
  std::vector<std::string> changes;
  if (at(before, "tsubu") != at(now, "tsubu")) changes.push_back(fmt::format("tsubu {} → {}", text(at(before, "tsubu")), text(at(now, "tsubu"))));
  const Json &a = at(before, "inputs"), &b = at(now, "inputs");
  compare_files("model", at(at(a, "model"), "files"), at(at(b, "model"), "files"), changes);
  if (at(at(a, "model"), "name") != at(at(b, "model"), "name"))
    changes.push_back(fmt::format("model: name {} → {}", text(at(at(a, "model"), "name")), text(at(at(b, "model"), "name"))));
  for (const char* kind : {"texts", "statistics", "start", "adapters"}) compare_files(kind, at(a, kind), at(b, kind), changes);
  if (at(before, "tensors").is_array() && at(now, "tensors").is_array()) compare_tensors(at(before, "tensors"), at(now, "tensors"), changes);
  // What is left of the treatment when the digests of texts and statistics are not counted twice.
  const Json &ta = at(before, "treatment"), &tb = at(now, "treatment");
  for (const char* key : {"recipe", "pure", "keep_output", "output_type", "embedding_type", "fallback", "overrides", "transform", "rounding", "training"})
    if (at(ta, key) != at(tb, key)) changes.push_back(fmt::format("treatment: {} {} → {}", key, at(ta, key).dump().substr(0, 200), at(tb, key).dump().substr(0, 200)));
  if (at(at(ta, "text"), "chunks") != at(at(tb, "text"), "chunks") || at(at(ta, "text"), "context") != at(at(tb, "text"), "context"))
    changes.push_back(fmt::format("texts: {} chunks of {} → {} of {}", at(at(ta, "text"), "chunks").dump(), at(at(ta, "text"), "context").dump(),
                                  at(at(tb, "text"), "chunks").dump(), at(at(tb, "text"), "context").dump()));
  return changes;
}

std::vector<CheckedFile> check_files(const Json& list, const std::string& folder) {
  std::vector<CheckedFile> checked;
  for (const Json& file : list) {
    CheckedFile c;
    c.name = text(at(file, "name"));
    c.expected = text(at(file, "sha256"));
    if (at(file, "size_bytes").is_number_unsigned()) c.size_bytes = at(file, "size_bytes").get<uint64_t>();
    if (c.name.empty() || fs::path(c.name).is_absolute() || c.name.find("..") != c.name.npos)
      fail(ExitCode::kBadInput, "manifest: file name '{}': expected one below the manifest's folder", c.name);
    const fs::path path = fs::path(folder) / c.name;
    std::error_code error;
    if (fs::is_regular_file(path, error)) c.found = digest_file(path.string()).sha256;
    checked.push_back(std::move(c));
  }
  return checked;
}

}  // namespace tsubu
