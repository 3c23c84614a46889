// Checks of what a checkpoint says about itself: files, configuration, labels.
// Sources of what loaders accept: compressed-tensors 0.18 (quant_args.py, quant_config.py: unknown keys are refused),
// AutoGPTQ and GPTQModel (config.py), transformers (quantization_config.py), vllm#26343 and vllm#38966 (versions).
#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/quantization_config.h"
#include "pipeline/lint.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;
using L = LintLevel;

bool there(const std::string& directory, const char* name) {
  std::error_code error;
  return fs::exists(fs::path(directory) / name, error);
}

// The quant_method under which loaders look for a layout.
bool method_takes(std::string_view method, const Layout& layout) {
  if (method == layout.method) return true;
  if (method == "modelopt") return layout.name == "float-quantized" || layout.method == "modelopt";
  if (method == "auto-round") return layout.method == "gptq" || layout.method == "awq";
  return method == "fbgemm_fp8" && layout.name == "float-quantized";
}

std::set<std::string_view> keys_of(const char* kind) {
  if (std::string_view(kind) == "arguments")
    return {"num_bits", "type", "symmetric", "group_size", "strategy", "block_structure", "dynamic", "actorder",
            "scale_dtype", "zp_dtype", "observer", "observer_kwargs"};
  if (std::string_view(kind) == "group") return {"targets", "weights", "input_activations", "output_activations", "format"};
  return {"version", "quant_method", "sparsity_config", "transform_config", "config_groups", "format", "quantization_status",
          "global_compression_ratio", "kv_cache_scheme", "ignore", "run_compressed", "dequantize", "moe_sparsity_config"};
}

void unknown_keys(const Json& json, const char* kind, const std::string& where, const Report& report) {
  const auto known = keys_of(kind);
  for (const auto& [key, value] : json.items())
    if (!known.contains(key))
      report(std::string_view(kind) == "config" ? L::kWarning : L::kError, where,
             fmt::format("key \"{}\" is not one that compressed-tensors knows: loaders refuse it", key));
}

uint64_t zero_words_bits(const QuantMatrix& m) { return static_cast<uint64_t>(m.code_bits()); }

}  // namespace

void lint_open(const LintSubject&, const Report&) {}  // the model is opened by the runner, whose error is the finding

void lint_files(const LintSubject& s, const Report& report) {
  if (!s.directory) return;
  const HfDirectory& d = *s.directory;
  for (const auto& entry : fs::directory_iterator(s.path)) {
    const std::string extension = entry.path().extension().string();
    for (const char* pickle : {".bin", ".pt", ".pth", ".ckpt", ".pkl"})
      if (extension == pickle)
        report(L::kWarning, entry.path().string(), "a Python pickle beside the safetensors: loaders that prefer it run code out of it");
  }
  if (!d.weights.metadata().contains("format"))
    report(L::kWarning, d.weights.paths().front(),
           "__metadata__ has no \"format\": transformers before 4.40 fail on it, newer ones take it for PyTorch's");
  const bool has_tokenizer = there(s.path, "tokenizer.json") || there(s.path, "tokenizer.model") || there(s.path, "vocab.json");
  if (!has_tokenizer) report(L::kError, s.path, "no tokenizer: expected tokenizer.json, tokenizer.model or vocab.json");
  if (!there(s.path, "tokenizer_config.json")) report(L::kWarning, s.path, "no tokenizer_config.json: special tokens and chat template are not said");
  if (!there(s.path, "generation_config.json")) report(L::kNote, s.path, "no generation_config.json");
  const fs::path index = fs::path(s.path) / "model.safetensors.index.json";
  if (there(s.path, "model.safetensors") && there(s.path, "model.safetensors.index.json"))
    report(L::kWarning, index.string(), "an index beside a whole model.safetensors: loaders take different ones");
  if (there(s.path, "model.safetensors.index.json")) {
    const Json json = parse_json(read_text_file(index.string(), uint64_t{1} << 28), index.string());
    const auto metadata = json.find("metadata");
    if (metadata != json.end() && metadata->is_object() && metadata->contains("total_size") &&
        (*metadata)["total_size"].is_number_unsigned()) {
      uint64_t total = 0;
      for (const SafeTensor& t : d.weights.tensors()) total += t.data.size();
      const auto said = (*metadata)["total_size"].get<uint64_t>();
      if (said != total) report(L::kWarning, index.string(), fmt::format("total_size {}: the tensors have {} bytes", said, total));
    }
  }
}

void lint_quantization_config(const LintSubject& s, const Report& report) {
  if (!s.directory) return;
  const HfDirectory& d = *s.directory;
  const std::string& method = d.quantization.method;
  const std::string where = d.quantization.where.empty() ? d.config_path : d.quantization.where;
  std::map<std::string_view, size_t> layouts;
  for (const auto& [name, module] : d.quantized.by_name) ++layouts[module.layout->name];
  if (d.quantized.by_name.empty()) {
    if (!method.empty())
      report(L::kError, where, fmt::format("says quant_method \"{}\", but every tensor is a float", method));
    return;
  }
  if (method.empty()) {
    report(L::kError, where, fmt::format("no quantization_config, but the tensors are {}: loaders take them for floats", d.quantized.layout_names()));
    return;
  }
  if (d.config.find("quantization_config") == d.config.end())
    report(L::kWarning, where, "config.json has no quantization_config of its own: transformers does not look elsewhere");
  for (const auto& [name, module] : d.quantized.by_name) {
    const Layout& layout = *module.layout;
    if (layouts[layout.name] == 0 || method_takes(method, layout)) continue;
    report(L::kError, where, fmt::format("says quant_method \"{}\", but {} modules such as {} are {} ({})", method, layouts[layout.name],
                                         name, layout.name, layout.method));
    layouts[layout.name] = 0;  // once
  }
  if (there(s.path, "quantize_config.json") && d.config.contains("quantization_config")) {
    const std::string path = (fs::path(s.path) / "quantize_config.json").string();
    const Json other = parse_json(read_text_file(path, uint64_t{1} << 24), path);
    for (const char* key : {"bits", "group_size", "sym", "desc_act", "checkpoint_format"})
      if (other.is_object() && other.contains(key) && d.quantization.json.contains(key) && other[key] != d.quantization.json[key])
        report(L::kError, path, fmt::format("{} is {}, in config.json it is {}", key, other[key].dump(), d.quantization.json[key].dump()));
  }
}

void lint_gptq_config(const LintSubject& s, const Report& report) {
  if (!s.directory || (s.directory->quantization.method != "gptq" && s.directory->quantization.method != "awq")) return;
  const QuantizationConfig& config = s.directory->quantization;
  const Json& json = config.json;
  for (const char* key : {"bits", "group_size"})
    if (!json.contains(key) && !(json.contains(key[0] == 'b' ? "w_bit" : "q_group_size")))
      report(L::kError, config.where, fmt::format("{} is missing", key));
  const bool overrides = json.contains("dynamic") || json.contains("extra_config");
  const bool gptq = config.method == "gptq";
  if (gptq && !json.contains("sym")) report(L::kWarning, config.where, "sym is missing: loaders take it for true");
  size_t n_bits = 0, n_group = 0, n_order = 0, n_asymmetric = 0, n_v1 = 0, n_v2 = 0, n_looks_v1 = 0, n_looks_v2 = 0, n = 0;
  std::string bits_example, group_example, order_example, zero_example;
  const std::string format = config.string("checkpoint_format").empty() ? "gptq" : config.string("checkpoint_format");
  for (const auto& [name, module] : s.directory->quantized.by_name) {
    const QuantMatrix& m = *module.matrix;
    if (module.layout->method != config.method) continue;
    ++n;
    const auto said_bits = config.find_uint("bits").value_or(config.find_uint("w_bit").value_or(0));
    if (said_bits != 0 && said_bits != zero_words_bits(m)) {
      ++n_bits;
      bits_example = fmt::format("{} has {}", name, m.code_bits());
    }
    const auto group = json.contains("group_size") ? json["group_size"] : json.value("q_group_size", Json());
    if (group.is_number_integer()) {
      const uint64_t expected = group.get<int64_t>() < 1 ? m.n_cols() : std::min<uint64_t>(group.get<uint64_t>(), m.n_cols());
      if (expected != m.group_columns()) {
        ++n_group;
        group_example = fmt::format("{} has {}", name, m.group_columns());
      }
    }
    if (!gptq) continue;
    if (!m.group_of_column().empty() && !json.value("desc_act", Json(false)).is_null() && json.value("desc_act", Json(false)) == false) {
      ++n_order;
      order_example = name;
    }
    // Zeros as stored decide the version where they are all in the middle; elsewhere codes lie around the true zero.
    std::vector<float> scales(m.n_groups()), zeros(m.n_groups());
    std::vector<uint8_t> codes(m.n_cols());
    const SafeTensor* qzeros = s.directory->weights.find(name + ".qzeros");
    const float middle = static_cast<float>(1 << (m.code_bits() - 1));
    bool all_middle = true;
    double offset = 0;
    const uint64_t step = std::max<uint64_t>(1, m.n_rows() / 64);
    uint64_t looked = 0;
    for (uint64_t row = 0; row < m.n_rows(); row += step) {
      m.read_scales(row, 1, scales.data(), zeros.data());
      m.read_codes(row, 1, codes.data());
      all_middle = all_middle && std::all_of(zeros.begin(), zeros.end(), [&](float z) { return z == middle; });
      for (uint64_t k = 0; k < m.n_cols(); ++k) {
        const uint64_t g = m.group_of_column().empty() ? k / m.group_columns() : m.group_of_column()[k];
        offset += static_cast<double>(codes[k]) - static_cast<double>(zeros[g]);
      }
      looked += m.n_cols();
    }
    offset /= static_cast<double>(std::max<uint64_t>(1, looked));
    if (all_middle && qzeros) {
      const uint32_t stored = word_at(*qzeros, 0) & ((1u << m.code_bits()) - 1);
      ++(stored == static_cast<uint32_t>(middle) ? n_v2 : n_v1);
    } else {
      ++n_asymmetric;
      zero_example = name;
      n_looks_v2 += offset < -0.6 && offset > -1.4;  // read as version 1 the zeros are one too large
      n_looks_v1 += offset > 0.6 && offset < 1.4;
    }
  }
  if (n_bits > 0)
    report(overrides ? L::kNote : L::kError, config.where, fmt::format("bits: {} of {} modules differ ({})", n_bits, n, bits_example));
  if (n_group > 0)
    report(overrides ? L::kNote : L::kError, config.where, fmt::format("group_size: {} of {} modules differ ({})", n_group, n, group_example));
  if (n_order > 0)
    report(L::kError, config.where, fmt::format("desc_act is false, but {} of {} modules have an activation order ({})", n_order, n, order_example));
  if (!gptq) return;
  if (json.value("sym", Json(true)) == true && n_asymmetric > 0)
    report(L::kError, config.where, fmt::format("sym is true, but the zeros of {} of {} modules are not all in the middle ({})", n_asymmetric, n, zero_example));
  if (json.value("sym", Json(true)) == false && n_asymmetric == 0 && n > 0)
    report(L::kNote, config.where, "sym is false, but every zero is in the middle");
  if (format == "gptq" && n_v2 > 0)
    report(L::kError, config.where, fmt::format("checkpoint_format is \"gptq\" (version 1), but {} of {} modules hold zeros as version 2 stores them: "
                                                "runtimes that trust the label are off by one level", n_v2, n));
  if (format == "gptq_v2" && n_v1 > 0)
    report(L::kError, config.where, fmt::format("checkpoint_format is \"gptq_v2\", but {} of {} modules hold zeros as version 1 stores them", n_v1, n));
  if (format == "gptq" && n_looks_v2 * 2 > n_asymmetric)
    report(L::kError, config.where, fmt::format("checkpoint_format is \"gptq\" (version 1), but the weights of {} of {} asymmetric modules lie one level "
                                                "too low: they look like version 2", n_looks_v2, n_asymmetric));
  if (format == "gptq_v2" && n_looks_v1 * 2 > n_asymmetric)
    report(L::kError, config.where, fmt::format("checkpoint_format is \"gptq_v2\", but the weights of {} of {} asymmetric modules lie one level too high: "
                                                "they look like version 1", n_looks_v1, n_asymmetric));
}

void lint_compressed_tensors_config(const LintSubject& s, const Report& report) {
  if (!s.directory || s.directory->quantization.method != "compressed-tensors") return;
  const QuantizationConfig& config = s.directory->quantization;
  unknown_keys(config.json, "config", config.where, report);
  const auto groups = config.json.find("config_groups");
  if (groups == config.json.end() || !groups->is_object() || groups->empty()) {
    report(L::kError, config.where, "config_groups is missing or empty");
    return;
  }
  for (const auto& [group_name, group] : groups->items()) {
    const std::string where = config.where + ": config_groups." + group_name;
    if (!group.is_object()) continue;
    unknown_keys(group, "group", where, report);
    for (const char* part : {"weights", "input_activations", "output_activations"})
      if (group.contains(part) && group[part].is_object()) unknown_keys(group[part], "arguments", where + "." + part, report);
    if (!group.contains("targets") || !group["targets"].is_array() || group["targets"].empty())
      report(L::kError, where, "targets is missing or empty");
  }
  std::vector<std::string> ignored;
  const auto ignore = config.json.find("ignore");
  if (ignore != config.json.end() && ignore->is_array())
    for (const Json& entry : *ignore)
      if (entry.is_string()) ignored.push_back(entry.get<std::string>());
  std::set<std::string> said;
  for (const auto& [name, module] : s.directory->quantized.by_name) {
    const QuantMatrix& m = *module.matrix;
    for (const std::string& entry : ignored)
      if (matches_target(entry, name) && said.insert(fmt::format("ignore {}", entry)).second)
        report(L::kError, config.where, fmt::format("ignore has \"{}\", but {} is quantized", entry, name));
    const CtWeights weights = compressed_tensors_weights(config, name);
    if (weights.num_bits != 0 && weights.num_bits != zero_words_bits(m) && said.insert("bits").second)
      report(L::kError, config.where, fmt::format("num_bits is {}, but {} has {}", weights.num_bits, name, m.code_bits()));
    if (weights.group_size != 0 && m.n_groups() > 1 && weights.group_size != m.group_columns() && said.insert("group").second)
      report(L::kError, config.where, fmt::format("group_size is {}, but {} has {}", weights.group_size, name, m.group_columns()));
    for (const auto& [group_name, group] : groups->items()) {
      const std::string where = config.where + ": config_groups." + group_name;
      if (!group.is_object() || !group.contains("weights") || !group["weights"].is_object()) continue;
      const bool symmetric = group["weights"].value("symmetric", Json(true)) != false;
      if (groups->size() == 1 && symmetric && m.has_zeros() && said.insert("zeros").second)
        report(L::kError, where, fmt::format("symmetric is true, but {} has zero points: loaders refuse them", name));
      if (groups->size() == 1 && !symmetric && !m.has_zeros() && m.levels()[0] == std::floor(m.levels()[0]) && said.insert("zeros").second)
        report(L::kError, where, fmt::format("symmetric is false, but {} has no zero points", name));
      const std::string format = group.value("format", Json()).is_string() ? group["format"].get<std::string>() : config.string("format");
      if (groups->size() == 1 && !format.empty() && format != module.layout->name && format != "naive-quantized" && said.insert("format").second)
        report(L::kError, where, fmt::format("format is \"{}\", but {} is {}", format, name, module.layout->name));
    }
  }
}

}  // namespace tsubu
