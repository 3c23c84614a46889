#include "model/adapter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "container/safetensors.h"
#include "model/model_sources.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "base_model.model.", kA = ".lora_A.weight", kB = ".lora_B.weight";
constexpr std::string_view kGgufA = ".lora_a", kGgufB = ".lora_b";
constexpr const char *kConfigFile = "adapter_config.json", *kWeightsFile = "adapter_model.safetensors";
constexpr std::string_view kWeight = ".weight";

bool is_gguf(const std::string& path) { return path.ends_with(".gguf"); }

// The architecture's own specs: a model from a GGUF file has no transforms left in its tensors' ones.
std::map<std::string, TensorSpec, std::less<>> specs_of(const Model& model) {
  std::map<std::string, TensorSpec, std::less<>> specs;
  for (TensorSpec& spec : model.architecture().tensors(model.hparams())) {
    std::string name = spec.name;
    specs.emplace(std::move(name), std::move(spec));
  }
  return specs;
}

// Modules of PEFT's that are the tensor: one, or one for each expert; none when the checkpoint has no such linear.
std::vector<std::string> modules_of(const TensorSpec& spec) {
  std::vector<std::string> modules;
  const bool is_whole = spec.hf_parts.empty() && spec.shape.size() == 2;
  for (const std::string& name : is_whole ? std::vector<std::string>{spec.hf_name} : spec.hf_parts)
    if (name.ends_with(kWeight)) modules.push_back(name.substr(0, name.size() - kWeight.size()));
  return modules;
}

uint64_t n_matrices(const TensorSpec& spec) { return spec.shape.size() == 3 ? spec.shape.front() : 1; }

// One file's matrix as floats.
struct Part {
  std::vector<uint64_t> shape;
  std::vector<float> values;
};

// Both halves of a tensor; rows of b in the file's order.
struct Halves {
  Part a, b;
};

LowRank joined(const std::string& where, const TensorSpec& spec, Halves halves, bool source_order) {
  const auto& a = halves.a.shape;
  const auto& b = halves.b.shape;
  const size_t dims = spec.shape.size();
  const uint64_t n = n_matrices(spec), one = dims < 2 ? 0 : spec.shape[dims - 2], rows = n * one, cols = spec.shape.back();
  const bool fits = (dims == 2 || dims == 3) && a.size() == dims && b.size() == dims && a[dims - 2] > 0 && a[dims - 2] == b[dims - 1] &&
                    a[dims - 1] == cols && b[dims - 2] == one && (dims == 2 || (a[0] == n && b[0] == n));
  if (!fits)
    fail(ExitCode::kBadInput, "{}: adapter of {}: expected {}(rank, {}) and ({}, rank), found {} and {}: it is of another model", where,
         spec.name, n > 1 ? fmt::format("{} times ", n) : "", cols, one, shape_text(a), shape_text(b));
  LowRank r{rows, cols, a[dims - 2], 1, std::move(halves.a.values), std::move(halves.b.values)};
  for (const auto* values : {&r.a, &r.b})
    if (!std::all_of(values->begin(), values->end(), [](float v) { return std::isfinite(v); }))
      fail(ExitCode::kNumeric, "{}: adapter of {}: not every number is finite", where, spec.name);
  if (source_order && (spec.transform == HfTransform::kRopeInterleave || spec.transform == HfTransform::kSplitHeads)) {
    std::vector<float> ordered(r.b.size());
    for (uint64_t row = 0; row < rows; ++row)
      std::copy_n(r.b.data() + row * r.rank, r.rank, ordered.data() + ModelTensor::row_of_source(spec, row) * r.rank);
    r.b = std::move(ordered);
  }
  return r;
}

void check_halves(const std::string& where, const std::string& name, const Halves& halves) {
  if (halves.a.values.empty() || halves.b.values.empty())
    fail(ExitCode::kBadInput, "{}: adapter of {}: {} is missing", where, name, halves.a.values.empty() ? "A" : "B");
}

double number_of(const Json& config, const char* key, const std::string& where) {
  const auto it = config.find(key);
  if (it == config.end() || !it->is_number() || !(it->get<double>() > 0))
    fail(ExitCode::kBadInput, "{}: {}: expected a number above 0, found {}", where, key,
         it == config.end() ? "nothing" : it->dump().substr(0, 80));
  return it->get<double>();
}

void check_config(const Json& config, const std::string& where) {
  const auto text = [&](const char* key) {
    const auto it = config.find(key);
    return it != config.end() && it->is_string() ? it->get<std::string>() : std::string();
  };
  if (text("peft_type") != "LORA")
    fail(ExitCode::kUnsupported, "{}: peft_type \"{}\": only LORA is supported", where, text("peft_type"));
  // Keys that change what the numbers mean: absent, null, false and empty mean that they do not.
  for (const char* key : {"use_dora", "modules_to_save", "alpha_pattern", "trainable_token_indices", "layer_replication",
                          "megatron_config", "lora_bias", "use_qalora", "arrow_config", "target_parameters", "alora_invocation_tokens",
                          "use_bdlora", "monteclora_config", "kasa_config"}) {
    const auto it = config.find(key);
    if (it == config.end() || it->is_null() || (it->is_boolean() && !it->get<bool>()) || ((it->is_array() || it->is_object()) && it->empty()))
      continue;
    fail(ExitCode::kUnsupported, "{}: {} {}: only plain LoRA of linears is supported", where, key, it->dump().substr(0, 80));
  }
  const std::string bias = text("bias");
  if (!bias.empty() && bias != "none") fail(ExitCode::kUnsupported, "{}: bias \"{}\": only none is supported", where, bias);
}

// A module's tensor, and which of its matrices.
using Modules = std::map<std::string, std::pair<const TensorSpec*, size_t>, std::less<>>;

// By the names that a checkpoint may have been trained under.
Modules modules_by_name(const std::map<std::string, TensorSpec, std::less<>>& specs) {
  Modules all;
  for (const auto& [name, spec] : specs) {
    const std::vector<std::string> modules = modules_of(spec);
    for (size_t e = 0; e < modules.size(); ++e)
      for (const std::string& own : {modules[e], "language_model." + modules[e], modules[e].substr(modules[e].find('.') + 1)})
        all.emplace(own, std::pair(&spec, e));
  }
  return all;
}

// The experts' halves as one, in their order; zeros for experts without an adapter.
Halves stacked(const std::string& where, const TensorSpec& spec, std::vector<Halves> experts) {
  const auto first = std::find_if(experts.begin(), experts.end(), [](const Halves& h) { return h.a.shape.size() == 2; });
  const uint64_t rank = first == experts.end() ? 0 : first->a.shape[0], n = experts.size(), rows = spec.shape[1], cols = spec.shape[2];
  const std::vector<uint64_t> a = {rank, cols}, b = {rows, rank};
  Halves whole{{{n, rank, cols}, {}}, {{n, rows, rank}, {}}};
  for (size_t e = 0; e < n; ++e) {
    Halves& h = experts[e];
    if (h.a.values.empty() && h.b.values.empty()) {
      h = {{a, std::vector<float>(rank * cols)}, {b, std::vector<float>(rows * rank)}};
    } else if (h.a.values.empty() || h.b.values.empty()) {
      fail(ExitCode::kBadInput, "{}: adapter of {}, expert {}: {} is missing", where, spec.name, e, h.a.values.empty() ? "A" : "B");
    }
    if (h.a.shape != a || h.b.shape != b)
      fail(ExitCode::kBadInput, "{}: adapter of {}, expert {}: expected {} and {} as of the others, found {} and {}", where, spec.name, e,
           shape_text(a), shape_text(b), shape_text(h.a.shape), shape_text(h.b.shape));
    whole.a.values.insert(whole.a.values.end(), h.a.values.begin(), h.a.values.end());
    whole.b.values.insert(whole.b.values.end(), h.b.values.begin(), h.b.values.end());
  }
  return whole;
}

Adapter read_peft(const std::string& path, const Model& model) {
  const std::string config_path = path + "/" + kConfigFile, weights_path = path + "/" + kWeightsFile;
  const Json config = parse_json(read_text_file(config_path, uint64_t{1} << 24), config_path);
  if (!config.is_object()) fail(ExitCode::kBadInput, "{}: expected a JSON object", config_path);
  check_config(config, config_path);
  const double alpha = number_of(config, "lora_alpha", config_path);
  const auto rslora = config.find("use_rslora");
  const bool by_root = rslora != config.end() && rslora->is_boolean() && rslora->get<bool>();
  if (!fs::exists(weights_path))
    fail(ExitCode::kIo, "{}: missing ({} is there){}", weights_path, kConfigFile,
         fs::exists(path + "/adapter_model.bin") ? ": adapter_model.bin is a Python pickle, which is refused: save it as safetensors" : "");
  const SafetensorsFile file = SafetensorsFile::open(weights_path);
  const auto specs = specs_of(model);
  const Modules modules = modules_by_name(specs);
  std::map<std::string, std::vector<Halves>> halves;
  for (const SafeTensor& tensor : file.tensors()) {
    std::string_view name = tensor.name;
    if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
    std::string module(name);
    for (std::string_view middle : {".lora_A.default.weight", ".lora_B.default.weight"})  // a state saved as it is in memory
      if (module.ends_with(middle)) module.replace(module.size() - middle.size(), middle.size(), middle.substr(0, 7)).append(kWeight);
    const bool is_a = module.ends_with(kA), is_b = module.ends_with(kB);
    if (!is_a && !is_b) fail(ExitCode::kUnsupported, "{}: tensor {}: only lora_A and lora_B of linears are supported", weights_path, tensor.name);
    module.resize(module.size() - kA.size());
    const auto found = modules.find(module);
    if (found == modules.end())
      fail(ExitCode::kBadInput, "{}: tensor {}: the model has no linear {} ({}): is it an adapter of another model?", weights_path,
           tensor.name, module, model.path());
    const TypeInfo& type = type_named(safe_dtype_name(tensor.dtype));
    const auto& [spec, expert] = found->second;
    std::vector<Halves>& own = halves[spec->name];
    own.resize(n_matrices(*spec));
    Part& part = is_a ? own[expert].a : own[expert].b;
    part.shape = tensor.shape;
    part.values.resize(tensor.data.size() / type.block_bytes);
    type.decode(tensor.data.data(), part.values.data(), part.values.size());
  }
  Adapter adapter;
  adapter.files = {config_path, weights_path};
  for (auto& [name, experts] : halves) {
    const TensorSpec& spec = specs.at(name);
    Halves h = spec.shape.size() == 3 ? stacked(weights_path, spec, std::move(experts)) : std::move(experts.front());
    check_halves(weights_path, name, h);
    auto r = std::make_shared<LowRank>(joined(weights_path, spec, std::move(h), true));
    const auto rank = static_cast<double>(r->rank);
    r->scale = static_cast<float>(alpha / (by_root ? std::sqrt(rank) : rank));
    adapter.tensors[name] = std::move(r);
  }
  return adapter;
}

std::string text_of(const GgufMetadata& metadata, std::string_view key) {
  const GgufValue* value = metadata.find(key);
  return value && value->as_string() ? *value->as_string() : std::string();
}

Adapter read_gguf(const std::string& path, const Model& model) {
  const GgufFile file = GgufFile::open(path);
  const GgufMetadata& metadata = file.metadata();
  if (text_of(metadata, "general.type") != "adapter" || text_of(metadata, "adapter.type") != "lora")
    fail(ExitCode::kBadInput, "{}: no LoRA adapter: general.type \"{}\", adapter.type \"{}\"", path, text_of(metadata, "general.type"),
         text_of(metadata, "adapter.type"));
  if (const std::string name = text_of(metadata, "general.architecture"); name != model.architecture().name())
    fail(ExitCode::kBadInput, "{}: an adapter for architecture \"{}\", and the model's is \"{}\"", path, name, model.architecture().name());
  const GgufValue* alpha = metadata.find("adapter.lora.alpha");
  const double value = alpha ? alpha->as_number().value_or(0) : 0;  // 0: the scale is 1
  const auto specs = specs_of(model);
  std::map<std::string, Halves> halves;
  for (const GgufTensor& tensor : file.tensors()) {
    const bool is_a = tensor.name.ends_with(kGgufA), is_b = tensor.name.ends_with(kGgufB);
    const std::string name = tensor.name.substr(0, tensor.name.size() - std::min(tensor.name.size(), kGgufA.size()));
    if ((!is_a && !is_b) || !specs.contains(name))
      fail(ExitCode::kBadInput, "{}: tensor {}: expected the name of a matrix of the model and .lora_a or .lora_b", path, tensor.name);
    if (!tensor.type->decode) fail(ExitCode::kUnsupported, "{}: tensor {}: type {} cannot be decoded", path, tensor.name, tensor.type->name);
    Part& part = is_a ? halves[name].a : halves[name].b;
    part.shape = tensor.shape;
    part.values.resize(tensor.n_elements());
    tensor.type->decode(tensor.data.data(), part.values.data(), part.values.size());
  }
  Adapter adapter;
  adapter.files = {path};
  for (auto& [name, h] : halves) {
    check_halves(path, name, h);
    auto r = std::make_shared<LowRank>(joined(path, specs.at(name), std::move(h), false));
    if (value != 0) r->scale = static_cast<float>(value / static_cast<double>(r->rank));
    adapter.tensors[name] = std::move(r);
  }
  return adapter;
}

void write_gguf(const std::string& path, const Model& model, const Adapter& adapter, const AdapterWriting& how) {
  GgufWriter writer(path);
  GgufMetadata& metadata = writer.metadata();
  metadata.set("general.architecture", GgufValue::string(std::string(model.architecture().name())));
  metadata.set("general.type", GgufValue::string("adapter"));
  metadata.set("general.name", GgufValue::string("adapter of " + fs::path(how.base_name).filename().string()));
  metadata.set("adapter.type", GgufValue::string("lora"));
  metadata.set("adapter.lora.alpha", GgufValue::f32(static_cast<float>(how.alpha)));
  const TypeInfo& f32 = type_named("F32");
  for (const auto& [name, r] : adapter.tensors) {
    const ModelTensor& t = model.tensor(name);
    std::vector<uint64_t> a = {r->rank, r->n_cols}, b = {r->n_rows / t.n_matrices(), r->rank};
    if (t.spec().shape.size() == 3)
      for (auto* shape : {&a, &b}) shape->insert(shape->begin(), t.n_matrices());
    writer.declare(name + std::string(kGgufA), a, f32);
    writer.declare(name + std::string(kGgufB), b, f32);
  }
  writer.begin_data();
  for (const auto& [name, r] : adapter.tensors) {
    writer.write(std::as_bytes(std::span(r->a)));
    writer.write(std::as_bytes(std::span(r->b)));
  }
  writer.commit();
}

// The name of a module within its block, shortest first, by which PEFT finds these modules and no others.
Json target_modules(const std::map<std::string, TensorSpec, std::less<>>& specs, const Adapter& adapter) {
  const auto last = [](const std::string& module, int parts) {
    size_t at = module.size();
    for (int i = 0; i < parts; ++i) {
      at = module.rfind('.', at - 1);
      if (at == std::string::npos) return module;
    }
    return module.substr(at + 1);
  };
  std::vector<std::string> others;
  for (const auto& [name, spec] : specs) {
    if (adapter.tensors.contains(name)) continue;
    for (const std::string& module : modules_of(spec)) others.push_back("." + module);
  }
  std::set<std::string> names;
  for (const auto& [name, r] : adapter.tensors) {
    const std::vector<std::string> modules = modules_of(specs.at(name));
    for (int parts = 1;; ++parts) {
      const std::string shortened = last(modules.front(), parts);
      const bool hits_others = std::any_of(others.begin(), others.end(), [&](const std::string& m) { return m.ends_with("." + shortened); });
      if (hits_others && shortened != modules.front()) continue;
      for (const std::string& module : modules) names.insert(last(module, parts));
      break;
    }
  }
  return Json(std::vector<std::string>(names.begin(), names.end()));
}

void write_peft(const std::string& path, const Model& model, const Adapter& adapter, const AdapterWriting& how) {
  const auto specs = specs_of(model);
  Json ranks = Json::object(), alphas = Json::object();
  bool transposed = false;
  for (const auto& [name, r] : adapter.tensors) {
    const TensorSpec& spec = specs.at(name);
    const std::vector<std::string> modules = modules_of(spec);
    if (modules.empty())
      fail(ExitCode::kUnsupported, "{}: PEFT has no linear for {} of {}: write a GGUF adapter (a name that ends in .gguf)", path, name,
           model.architecture().name());
    transposed |= spec.transform == HfTransform::kTranspose;
    if (r->rank == how.rank) continue;
    for (const std::string& module : modules) ranks[module] = r->rank;
  }
  const Json config = {{"peft_type", "LORA"},
                       {"task_type", "CAUSAL_LM"},
                       {"auto_mapping", nullptr},
                       {"base_model_name_or_path", how.base_name},
                       {"revision", nullptr},
                       {"inference_mode", true},
                       {"r", how.rank},
                       {"lora_alpha", how.alpha == std::floor(how.alpha) ? Json(static_cast<int64_t>(how.alpha)) : Json(how.alpha)},
                       {"lora_dropout", 0.0},
                       {"bias", "none"},
                       {"fan_in_fan_out", transposed},
                       {"init_lora_weights", true},
                       {"use_rslora", false},
                       {"use_dora", false},
                       {"rank_pattern", ranks},
                       {"alpha_pattern", alphas},
                       {"modules_to_save", nullptr},
                       {"layers_to_transform", nullptr},
                       {"layers_pattern", nullptr},
                       {"target_modules", target_modules(specs, adapter)}};
  // Written under another name first, so that the directory is whole when it appears.
  const fs::path target(path), part = AtomicFile::temporary_name(path);
  std::error_code ignored;
  fs::remove_all(part, ignored);
  try {
    fs::create_directories(part);
    SafetensorsWriter writer((part / kWeightsFile).string());
    struct Piece {
      std::span<const float> values;
      size_t rank = 0;
      const TensorSpec* order = nullptr;  // of B's rows
    };
    std::map<std::string, Piece> pieces;
    for (const auto& [name, r] : adapter.tensors) {
      const TensorSpec& spec = specs.at(name);
      const std::vector<std::string> modules = modules_of(spec);
      const size_t rows = r->n_rows / modules.size(), a = r->rank * r->n_cols, b = rows * r->rank;
      for (size_t e = 0; e < modules.size(); ++e) {
        const std::string module = std::string(kPrefix) + modules[e];
        pieces[module + std::string(kA)] = {std::span(r->a).subspan(e * a, a), r->rank, nullptr};
        pieces[module + std::string(kB)] = {std::span(r->b).subspan(e * b, b), r->rank, modules.size() == 1 ? &spec : nullptr};
        writer.declare(module + std::string(kA), SafeDtype::kF32, {r->rank, r->n_cols});
        writer.declare(module + std::string(kB), SafeDtype::kF32, {rows, r->rank});
      }
    }
    std::vector<float> ordered;
    for (const std::string& name : writer.begin_data()) {
      const Piece& piece = pieces.at(name);
      if (!piece.order) {
        writer.write(std::as_bytes(piece.values));
        continue;
      }
      ordered.resize(piece.values.size());
      for (uint64_t row = 0; row < piece.values.size() / piece.rank; ++row)
        std::copy_n(piece.values.data() + ModelTensor::row_of_source(*piece.order, row) * piece.rank, piece.rank,
                    ordered.data() + row * piece.rank);
      writer.write(std::as_bytes(std::span(ordered)));
    }
    writer.commit();
    write_text_file((part / kConfigFile).string(), dump_json(config));
    fs::rename(part, target);
  } catch (const fs::filesystem_error& e) {
    fs::remove_all(part, ignored);
    fail(ExitCode::kIo, "{}: cannot be written: {}", path, e.code().message());
  } catch (...) {
    fs::remove_all(part, ignored);
    throw;
  }
}

}  // namespace

uint64_t Adapter::n_parameters() const {
  uint64_t n = 0;
  for (const auto& [name, r] : tensors) n += r->a.size() + r->b.size();
  return n;
}

Adapter read_adapter(const std::string& path, const Model& model) {
  if (!fs::exists(path)) fail(ExitCode::kIo, "{}: no such file or directory: expected a directory with {} or a GGUF adapter", path, kConfigFile);
  Adapter adapter = fs::is_directory(path) ? read_peft(path, model) : read_gguf(path, model);
  if (adapter.tensors.empty()) fail(ExitCode::kBadInput, "{}: an adapter without tensors", path);
  return adapter;
}

void add_adapter(Model& model, const Adapter& adapter) {
  for (const auto& [name, addition] : adapter.tensors) model.add_low_rank(name, addition);
  model.add_adapter_files(adapter.files);
}

void write_adapter(const std::string& path, const Model& model, const Adapter& adapter, const AdapterWriting& how) {
  if (is_gguf(path)) return write_gguf(path, model, adapter, how);
  write_peft(path, model, adapter, how);
}

uint64_t adapter_file_bytes(const std::string& path) { return fs::file_size(fs::is_directory(path) ? path + "/" + kWeightsFile : path); }

std::vector<std::string> adaptable_tensors(const Model& model) {
  std::vector<std::string> names;
  for (const Op& op : model.graph().ops) {
    if (op.kind != OpKind::kLinear || op.layer < 0) continue;
    if (std::find(names.begin(), names.end(), op.weight) != names.end()) continue;
    if (model.tensor(op.weight).spec().quantizable) names.push_back(op.weight);
  }
  return names;
}

std::vector<std::string> adaptable_experts(const Model& model) {
  std::vector<std::string> names;
  for (const Op& op : model.graph().ops)
    if (op.kind == OpKind::kExpertLinear && is_routed(model.graph(), op)) names.push_back(op.weight);
  return names;
}

std::vector<std::string> targeted_tensors(const Model& model, std::string_view targets) {
  const std::vector<std::string> plain = adaptable_tensors(model), experts = adaptable_experts(model);
  if (targets == "all") return plain;
  if (targets == "experts" && !experts.empty()) return experts;
  const auto specs = specs_of(model);
  // The last part of a tensor's name in both worlds.
  const auto names_of = [&](const std::string& name) {
    std::set<std::string, std::less<>> names;
    const auto add = [&](std::string_view whole) {
      if (!whole.ends_with(kWeight)) return;
      whole.remove_suffix(kWeight.size());
      names.emplace(whole.substr(whole.rfind('.') + 1));
    };
    add(name);
    if (const auto spec = specs.find(name); spec != specs.end())
      for (const std::string& module : modules_of(spec->second)) add(module + std::string(kWeight));
    return names;
  };
  std::set<std::string> chosen;
  std::set<std::string, std::less<>> known;
  for (const auto* list : {&plain, &experts})
    for (const std::string& name : *list) known.merge(names_of(name));
  for (std::string_view rest = targets; !rest.empty();) {
    const std::string one(rest.substr(0, std::min(rest.find('+'), rest.size())));
    rest.remove_prefix(std::min(rest.size(), one.size() + 1));
    const bool all = one == "all", of_experts = one == "experts" && !experts.empty();
    if (!all && !of_experts && !known.contains(one)) {
      std::string list = experts.empty() ? "all" : "all, experts";
      for (const std::string& k : known) list += ", " + k;
      fail(ExitCode::kUsage, "targets={}: the model has no linear \"{}\": expected names joined by + out of {}", targets, one, list);
    }
    if (all) chosen.insert(plain.begin(), plain.end());
    if (of_experts) chosen.insert(experts.begin(), experts.end());
    for (const auto* list : {&plain, &experts})
      for (const std::string& name : *list)
        if (names_of(name).contains(one)) chosen.insert(name);
  }
  std::vector<std::string> in_order;
  for (const auto* list : {&plain, &experts})
    for (const std::string& name : *list)
      if (chosen.contains(name)) in_order.push_back(name);
  return in_order;
}

}  // namespace tsubu
