// The one list of schemes for layouts, and the configurations that loaders accept.
// Sources: compressed-tensors (quantization/quant_scheme.py presets, quant_args.py: unknown keys are refused), AutoGPTQ and
// GPTQModel (quantize_config.json), AutoAWQ (models/_config.py), transformers (BitsAndBytesConfig, FineGrainedFP8Config).
#include "pipeline/layout_schemes.h"

#include <algorithm>

#include "base/error.h"
#include "base/size.h"
#include "plan/recipe.h"

namespace tsubu {
namespace {

using A = LayoutActivations;
constexpr std::string_view kCt = "compressed-tensors", kBnb = "bitsandbytes";
constexpr std::string_view kPack = "pack-quantized", kFloat = "float-quantized";
constexpr std::string_view kNv = "nvfp4-pack-quantized", kMx = "mxfp4-pack-quantized", kBnb4 = "bitsandbytes-4bit";

constexpr LayoutScheme kSchemes[] = {
    {kCt, "W4A16", kPack, "int4:group=128", A::kNone, "4-bit integers in groups of 128"},
    {kCt, "W4A16_ASYM", kPack, "int4:group=128:asym", A::kNone, "the same with zero points"},
    {kCt, "W8A16", kPack, "int8:channel", A::kNone, "8-bit integers, a scale for each output"},
    {kCt, "W3A16", kPack, "int3:group=128", A::kNone, "3-bit integers in groups of 128"},
    {kCt, "W2A16", kPack, "int2:group=64", A::kNone, "2-bit integers in groups of 64"},
    {kCt, "W8A8", "int-quantized", "int8:channel", A::kInt8Token, "8-bit integers, activations too, by token"},
    {kCt, "FP8", kFloat, "fp8_e4m3:tensor", A::kFp8Static, "8-bit floats, one scale for a tensor, activations too"},
    {kCt, "FP8_DYNAMIC", kFloat, "fp8_e4m3:channel", A::kFp8Token, "8-bit floats, activations too, by token"},
    {kCt, "FP8_BLOCK", kFloat, "fp8_block", A::kFp8Group, "8-bit floats in blocks of 128 x 128"},
    {kCt, "NVFP4", kNv, "nvfp4", A::kNvfp4, "4-bit floats in groups of 16, activations too"},
    {kCt, "NVFP4A16", kNv, "nvfp4", A::kNone, "4-bit floats in groups of 16"},
    {kCt, "MXFP4", kMx, "mxfp4", A::kMxfp4, "4-bit floats in groups of 32, activations too"},
    {kCt, "MXFP4A16", kMx, "mxfp4", A::kNone, "4-bit floats in groups of 32"},
    {"gptq", "W4A16", "gptq", "int4:group=128", A::kNone, "4-bit integers in groups of 128, version 1"},
    {"gptq", "W4A16_ASYM", "gptq", "int4:group=128:asym", A::kNone, "the same with zero points, version 2"},
    {"gptq", "W8A16", "gptq", "int8:group=128", A::kNone, "8-bit integers in groups of 128"},
    {"gptq", "W3A16", "gptq", "int3:group=128", A::kNone, "3-bit integers in groups of 128"},
    {"gptq", "W2A16", "gptq", "int2:group=64", A::kNone, "2-bit integers in groups of 64"},
    {"awq", "W4A16_ASYM", "awq", "int4:group=128:asym", A::kNone, "4-bit integers with zero points in groups of 128"},
    {"awq", "W4A16", "awq", "int4:group=128", A::kNone, "the same with every zero in the middle"},
    {kBnb, "NF4", kBnb4, "nf4:group=64", A::kNone, "quantiles of the normal distribution in blocks of 64"},
    {kBnb, "NF4_DOUBLE", kBnb4, "nf4:group=64:double", A::kNone, "the same with the scales in 8 bits"},
    {kBnb, "FP4", kBnb4, "bnb_fp4:group=64", A::kNone, "bitsandbytes' 4-bit floats in blocks of 64"},
    {kBnb, "FP4_DOUBLE", kBnb4, "bnb_fp4:group=64:double", A::kNone, "the same with the scales in 8 bits"},
    {kBnb, "INT8", "bitsandbytes-int8", "int8:channel", A::kNone, "8-bit integers by rows (LLM.int8)"},
    {"fp8", "FP8_BLOCK", "fp8-block", "fp8_block", A::kFp8Group, "8-bit floats in blocks of 128 x 128, as DeepSeek's"},
    {"mxfp4", "MXFP4", "mxfp4", "mxfp4", A::kNone, "4-bit floats in groups of 32, the experts of gpt-oss"},
};

std::string upper(std::string_view text) {
  std::string r(text);
  for (char& c : r) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c == '-' ? '_' : c);
  return r;
}

// QuantizationArgs of compressed-tensors: no key that its version 0.18 does not know.
Json arguments(int bits, const char* type, bool symmetric, const char* strategy, Json group_size, Json dynamic) {
  return {{"num_bits", bits},       {"type", type},           {"symmetric", symmetric}, {"strategy", strategy},
          {"group_size", std::move(group_size)}, {"dynamic", std::move(dynamic)}};
}

Json with_scale_dtype(Json args, const char* dtype) {
  args["scale_dtype"] = dtype;
  return args;
}

Json activation_arguments(LayoutActivations activations, bool static_inputs) {
  switch (activations) {
    case A::kNone:
      return nullptr;
    case A::kInt8Token:
      return arguments(8, "int", true, "token", nullptr, true);
    case A::kFp8Token:
      return arguments(8, "float", true, "token", nullptr, true);
    case A::kFp8Static:
      return static_inputs ? arguments(8, "float", true, "tensor", nullptr, false)
                           : arguments(8, "float", true, "token", nullptr, true);
    case A::kFp8Group:
      return arguments(8, "float", true, "group", 128, true);
    case A::kNvfp4:
      if (!static_inputs) return nullptr;
      return with_scale_dtype(arguments(4, "float", true, "tensor_group", 16, "local"), "torch.float8_e4m3fn");
    case A::kMxfp4:
      return with_scale_dtype(arguments(4, "float", true, "group", 32, true), "torch.uint8");
  }
  return nullptr;
}

Json weight_arguments(const LayoutRecipe& recipe) {
  if (recipe.scheme->is_block()) {
    Json weights = arguments(8, "float", true, "block", nullptr, false);
    weights["block_structure"] = {128, 128};
    return weights;
  }
  const SimFormat f = recipe.format();
  const char* strategy = f.granularity == SimGranularity::kTensor    ? "tensor"
                         : f.granularity == SimGranularity::kChannel ? "channel"
                         : f.family == "nvfp4"                       ? "tensor_group"
                                                                     : "group";
  Json weights = arguments(f.code_bits, f.family == "int" ? "int" : "float", recipe.is_symmetric(), strategy,
                           f.granularity == SimGranularity::kGroup ? Json(f.group) : Json(nullptr), false);
  if (f.family == "nvfp4") return with_scale_dtype(std::move(weights), "torch.float8_e4m3fn");
  if (f.family == "mxfp4") return with_scale_dtype(std::move(weights), "torch.uint8");
  return weights;
}

Json compressed_tensors_config(const std::vector<LayoutConfigGroup>& groups, const std::vector<std::string>& ignored) {
  Json config_groups;
  bool one_layout = true;
  for (size_t i = 0; i < groups.size(); ++i) {
    const LayoutRecipe& recipe = groups[i].recipe;
    one_layout = one_layout && recipe.scheme->layout == groups.front().recipe.scheme->layout;
    Json group;
    group["targets"] = groups[i].modules;
    group["weights"] = weight_arguments(recipe);
    group["input_activations"] = activation_arguments(recipe.scheme->activations, recipe.static_inputs);
    group["output_activations"] = nullptr;
    group["format"] = recipe.scheme->layout;
    config_groups[fmt::format("group_{}", i)] = std::move(group);
  }
  return {{"config_groups", std::move(config_groups)},
          {"format", one_layout ? groups.front().recipe.scheme->layout : "mixed-precision"},
          {"global_compression_ratio", nullptr},
          {"ignore", ignored},
          {"kv_cache_scheme", nullptr},
          {"quant_method", "compressed-tensors"},
          {"quantization_status", "compressed"}};
}

// Loaders of GPTQ and AWQ leave the head alone by themselves.
std::vector<std::string> without_head(std::vector<std::string> modules) {
  std::erase(modules, "lm_head");
  return modules;
}

// GPTQModel's "dynamic": "-:" and a regular expression names modules that stay floats (routers of experts).
Json gptq_exceptions(const std::vector<std::string>& ignored) {
  Json exceptions = Json::object();
  for (const std::string& module : without_head(ignored)) exceptions["-:" + exact_pattern(module)] = Json::object();
  return exceptions;
}

}  // namespace

std::span<const LayoutScheme> layout_schemes() { return kSchemes; }

std::vector<std::string> layout_methods() {
  std::vector<std::string> methods;
  for (const LayoutScheme& s : kSchemes)
    if (std::find(methods.begin(), methods.end(), s.method) == methods.end()) methods.emplace_back(s.method);
  return methods;
}

const LayoutScheme& layout_scheme(std::string_view method, std::string_view scheme) {
  const std::vector<std::string> methods = layout_methods();
  if (std::find(methods.begin(), methods.end(), method) == methods.end()) {
    const std::string nearest = nearest_name(method.substr(0, 64), methods.data(), methods.size());
    fail(ExitCode::kUsage, "--format {}: expected gguf, hf, {}{}", method.substr(0, 64), fmt::join(methods, ", "),
         nearest.empty() ? "" : ": did you mean '" + nearest + "'?");
  }
  std::string names;
  for (const LayoutScheme& s : kSchemes) {
    if (s.method != method) continue;
    if (scheme.empty() || s.name == upper(scheme)) return s;
    names += (names.empty() ? "" : ", ") + std::string(s.name);
  }
  fail(ExitCode::kUsage, "--to {}: {} has the schemes {}", scheme.substr(0, 64), method, names);
}

const Layout& layout_named(std::string_view name) {
  for (const Layout* layout : layouts())
    if (layout->name == name) return *layout;
  fail(ExitCode::kUsage, "there is no layout {}", name);
}

SafeDtype LayoutRecipe::scale_type() const {
  if (scheme->method == "gptq" || scheme->method == "awq") return SafeDtype::kF16;
  if (scheme->method != "compressed-tensors") return SafeDtype::kF32;
  return model_dtype == "float16" ? SafeDtype::kF16 : model_dtype == "bfloat16" ? SafeDtype::kBF16 : SafeDtype::kF32;
}

SimFormat LayoutRecipe::format() const {
  std::string spec(scheme->is_block() ? "fp8_e4m3:channel" : scheme->format);
  if (spec != "nvfp4" && spec != "mxfp4" && spec.find("double") == std::string::npos) {
    const SafeDtype type = scheme->is_block() ? SafeDtype::kF32 : scale_type();
    spec += type == SafeDtype::kF16 ? ":scale=f16" : type == SafeDtype::kBF16 ? ":scale=bf16" : ":scale=f32";
  }
  SimFormat format = SimFormat::parse(spec);
  if (group_size > 0) {
    const bool packed = scheme->layout == kPack;  // holds groups of any size, also where the preset has one scale for a row
    const bool fixed = format.family == "nvfp4" || format.family == "mxfp4" || scheme->is_block() ||
                       (format.granularity != SimGranularity::kGroup && !packed);
    if (fixed)
      fail(ExitCode::kUsage, "--group-size {}: {} has groups of its own", group_size, scheme->name);
    format.granularity = SimGranularity::kGroup;
    format.group = group_size;
  }
  return format;
}

Json quantization_config(const std::vector<LayoutConfigGroup>& groups, const std::vector<std::string>& ignored) {
  if (groups.empty()) fail(ExitCode::kUsage, "every linear stays float: nothing to quantize (write --format hf)");
  const LayoutRecipe& recipe = groups.front().recipe;
  const LayoutScheme* scheme = recipe.scheme;
  if (scheme->method == "compressed-tensors") return compressed_tensors_config(groups, ignored);
  if (groups.size() > 1) fail(ExitCode::kUsage, "{} has one scheme for all linears, {} were chosen", scheme->method, groups.size());
  const SimFormat f = recipe.format();
  const std::string quantizer = fmt::format("tsubu:{}", TSUBU_VERSION);
  if (scheme->method == "mxfp4") return {{"quant_method", "mxfp4"}, {"modules_to_not_convert", ignored}};
  if (scheme->method == "gptq") {
    Json config{{"bits", f.code_bits},
            {"group_size", f.group},
            {"desc_act", false},
            {"sym", recipe.is_symmetric()},
            {"lm_head", false},
            {"quant_method", "gptq"},
            {"checkpoint_format", recipe.is_symmetric() ? "gptq" : "gptq_v2"},
            {"pack_dtype", "int32"},
            {"true_sequential", true},
            {"static_groups", false},
            {"damp_percent", 0.01},
            {"meta", {{"quantizer", {quantizer}}}}};
    if (Json exceptions = gptq_exceptions(ignored); !exceptions.empty()) config["dynamic"] = std::move(exceptions);
    return config;
  }
  if (scheme->method == "awq") {
    const std::vector<std::string> kept = without_head(ignored);
    return {{"quant_method", "awq"}, {"bits", 4},         {"group_size", f.group},
            {"zero_point", true},    {"version", "gemm"}, {"modules_to_not_convert", kept.empty() ? Json(nullptr) : Json(kept)}};
  }
  if (scheme->method == "fp8")
    return {{"quant_method", "fp8"},
            {"fmt", "e4m3"},
            {"activation_scheme", "dynamic"},
            {"weight_block_size", {128, 128}},
            {"modules_to_not_convert", ignored}};
  const bool is_8bit = scheme->layout == "bitsandbytes-int8";
  return {{"quant_method", "bitsandbytes"},
          {"load_in_4bit", !is_8bit},
          {"load_in_8bit", is_8bit},
          {"_load_in_4bit", !is_8bit},
          {"_load_in_8bit", is_8bit},
          {"bnb_4bit_quant_type", f.family == "nf4" || is_8bit ? "nf4" : "fp4"},
          {"bnb_4bit_use_double_quant", f.double_quantized},
          {"bnb_4bit_compute_dtype", is_8bit || recipe.model_dtype.empty() ? "float32" : recipe.model_dtype},
          {"bnb_4bit_quant_storage", "uint8"},
          {"llm_int8_threshold", 6.0},
          {"llm_int8_skip_modules", ignored},
          {"llm_int8_enable_fp32_cpu_offload", false},
          {"llm_int8_has_fp16_weight", false}};
}

}  // namespace tsubu
