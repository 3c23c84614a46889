// RoPE scaling: config.json and GGUF metadata ↔ RopeScaling → frequencies. See rope_scaling.h.
#include "model/rope_scaling.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "base/progress.h"

namespace tsubu {
namespace {

constexpr double kMaxFactor = 1e6;

// Radians per position of pair i, unscaled.
double base_frequency(const Hparams& h, size_t i) {
  return std::pow(h.rope_base, -2.0 * static_cast<double>(i) / h.rope_dims);
}

// Llama 3.1: wavelengths shorter than original/high are kept, those longer than original/low are stretched by `factor`,
// and between them the frequency is interpolated linearly in original/wavelength.
std::vector<float> llama3_factors(const Hparams& h) {
  const RopeScaling& s = h.rope_scaling;
  std::vector<float> factors(h.rope_dims / 2);
  for (size_t i = 0; i < factors.size(); ++i) {
    const double turns = s.original_context * base_frequency(h, i) / (2 * std::numbers::pi);
    if (turns > s.high_freq_factor) {
      factors[i] = 1;
    } else if (turns < s.low_freq_factor) {
      factors[i] = static_cast<float>(s.factor);
    } else {
      const double smooth = (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
      factors[i] = static_cast<float>(1 / ((1 - smooth) / s.factor + smooth));
    }
  }
  return factors;
}

void llama3_from_config(const ConfigReader& rule, Hparams& h) {
  RopeScaling& s = h.rope_scaling;
  s.low_freq_factor = rule.find_number("low_freq_factor", 1e-6, kMaxFactor).value_or(1);
  s.high_freq_factor = rule.find_number("high_freq_factor", 1e-6, kMaxFactor).value_or(4);
  if (s.high_freq_factor <= s.low_freq_factor)
    fail(ExitCode::kBadInput, "{}: high_freq_factor {} must be above low_freq_factor {}", rule.where(),
         s.high_freq_factor, s.low_freq_factor);
  if (s.original_context == 0) s.original_context = 8192;
  s.frequency_factors = llama3_factors(h);
}

void yarn_from_config(const ConfigReader& rule, Hparams& h) {
  RopeScaling& s = h.rope_scaling;
  if (s.original_context == 0) s.original_context = h.n_ctx;
  s.beta_fast = rule.find_number("beta_fast", 1e-3, kMaxFactor).value_or(32);
  s.beta_slow = rule.find_number("beta_slow", 1e-3, kMaxFactor).value_or(1);
  s.truncate = rule.find_bool("truncate").value_or(true);
  auto magnitude = rule.find_number("attention_factor", 1e-6, kMaxFactor);
  const double mscale = rule.find_number("mscale", 0, kMaxFactor).value_or(0);
  const double mscale_all = rule.find_number("mscale_all_dim", 0, kMaxFactor).value_or(0);
  s.log_multiplier = mscale_all;
  if (!magnitude && mscale != 0 && mscale_all != 0)
    magnitude = yarn_magnitude(s.factor, mscale) / yarn_magnitude(s.factor, mscale_all);
  s.attention_factor = magnitude.value_or(0);
}

// Phi-3: one factor for each pair, other ones for sequences beyond the original context; cosines and sines grow with the
// stretched context. Source: LongRoPE (arXiv:2402.13753), transformers' reading of it.
void longrope_from_config(const ConfigReader& rule, Hparams& h) {
  RopeScaling& s = h.rope_scaling;
  if (s.original_context == 0)
    fail(ExitCode::kBadInput, "{}: \"original_max_position_embeddings\" is missing", rule.where());
  const auto factors = [&](const char* key) {
    const auto values = rule.find_numbers(key, 1e-6, kMaxFactor);
    if (!values) fail(ExitCode::kBadInput, "{}: \"{}\" is missing", rule.where(), key);
    if (values->size() != h.rope_dims / 2)
      fail(ExitCode::kBadInput, "{}: {}: expected {} factors, one for each pair of {} rotated dimensions, found {}",
           rule.where(), key, h.rope_dims / 2, h.rope_dims, values->size());
    return *values;
  };
  s.short_factors = factors("short_factor");
  s.long_factors = factors("long_factor");
  s.factor = static_cast<double>(h.n_ctx) / s.original_context;
  s.attention_factor =
      rule.find_number("attention_factor", 1e-6, kMaxFactor)
          .value_or(s.factor <= 1 ? 1 : std::sqrt(1 + std::log(s.factor) / std::log(s.original_context)));
}

double correction_dim(const Hparams& h, double n_turns) {
  const double context = h.rope_scaling.original_context ? h.rope_scaling.original_context : h.n_ctx;
  return h.rope_dims * std::log(context / (n_turns * 2 * std::numbers::pi)) / (2 * std::log(h.rope_base));
}

}  // namespace

double yarn_magnitude(double factor, double multiplier) { return factor <= 1 ? 1 : 0.1 * multiplier * std::log(factor) + 1; }

double rotary_share(const ConfigReader& config, std::string_view older_key) {
  for (const char* key : {"rope_parameters", "rope_scaling"})
    if (const auto rule = config.find_object(key))
      if (const auto share = rule->find_number("partial_rotary_factor", 0, 1)) return *share;
  if (const auto share = config.find_number("partial_rotary_factor", 0, 1)) return *share;
  return older_key.empty() ? 1 : config.find_number(older_key, 0, 1).value_or(1);
}

void rope_from_config(const ConfigReader& config, Hparams& h) {
  constexpr double kLeastBase = 1.0 + 1e-6, kMostBase = 1e15;
  auto rule = config.find_object("rope_parameters");
  if (!rule) rule = config.find_object("rope_scaling");
  if (rule) {
    if (const auto local = rule->find_object("sliding_attention")) {
      if (local->find_string("rope_type").value_or("default") != "default")
        fail(ExitCode::kUnsupported, "{}: rope_type \"{}\" is not supported for layers with a window", local->where(),
             *local->find_string("rope_type"));
      h.local_rope_base = local->find_number("rope_theta", kLeastBase, kMostBase).value_or(h.local_rope_base);
    }
    if (auto global = rule->find_object("full_attention")) rule = global;
  }
  auto theta = rule ? rule->find_number("rope_theta", kLeastBase, kMostBase) : std::nullopt;
  if (!theta) theta = config.find_number("rope_theta", kLeastBase, kMostBase);
  if (theta) h.rope_base = *theta;
  if (static_cast<uint32_t>(rotary_share(config) * h.head_dim) != h.rope_dims && rotary_share(config) != 1)
    fail(ExitCode::kUnsupported, "{}: partial_rotary_factor other than 1 is not supported for {}", config.where(),
         h.architecture);
  if (!rule) return;

  auto kind = rule->find_string("rope_type");
  if (!kind) kind = rule->find_string("type");
  if (kind == "su") kind = "longrope";  // its first name
  if (!kind || *kind == "default") return;
  if (*kind == "dynamic") {
    note(fmt::format("{}: rope type \"dynamic\" stretches positions only beyond {} tokens; it is left out",
                     config.where(), h.n_ctx));
    return;
  }
  RopeScaling& s = h.rope_scaling;
  const auto original = rule->find_uint({"original_max_position_embeddings"}, 1, kMaxContext);
  s.original_context = static_cast<uint32_t>(
      original ? *original : config.find_uint({"original_max_position_embeddings"}, 1, kMaxContext).value_or(0));
  auto factor = rule->find_number("factor", 1e-6, kMaxFactor);
  if (!factor && *kind == "yarn" && s.original_context) factor = static_cast<double>(h.n_ctx) / s.original_context;
  const bool is_known = *kind == "linear" || *kind == "llama3" || *kind == "yarn" || *kind == "longrope";
  if (!is_known)
    fail(ExitCode::kUnsupported, "{}: rope type \"{}\" is not supported (default, linear, llama3, yarn, longrope are)",
         config.where(), *kind);
  if (*kind == "longrope" && h.architecture != "phi3")
    fail(ExitCode::kUnsupported, "{}: rope type \"longrope\" has no counterpart in GGUF's \"{}\"", config.where(),
         h.architecture);
  if (!factor && *kind != "longrope") fail(ExitCode::kBadInput, "{}: \"factor\" is missing", rule->where());
  s.kind = *kind;
  s.factor = factor.value_or(1);
  if (s.kind == "llama3") llama3_from_config(*rule, h);
  if (s.kind == "yarn") yarn_from_config(*rule, h);
  if (s.kind == "longrope") longrope_from_config(*rule, h);
}

void rope_from_gguf(const GgufReader& metadata, Hparams& h) {
  RopeScaling& s = h.rope_scaling;
  h.rope_base = metadata.find_number("rope.freq_base", 1.0 + 1e-6, 1e15).value_or(h.rope_base);
  // LongRoPE is known by its tensors: the reader of the tensors sets the factors and the kind.
  s.original_context = static_cast<uint32_t>(
      metadata.find_uint("rope.scaling.original_context_length", 0, kMaxContext).value_or(0));
  s.attention_factor = metadata.find_number("rope.scaling.attn_factor", 1e-6, kMaxFactor).value_or(0);
  const std::string kind = metadata.find_string("rope.scaling.type").value_or("linear");
  if (kind == "longrope") s.kind = kind;
  if (kind == "none" || kind == "longrope") return;
  if (kind != "linear" && kind != "yarn")
    fail(ExitCode::kUnsupported, "{}: metadata {}: \"{}\" is not supported (none, linear, yarn are)", metadata.where(),
         metadata.key("rope.scaling.type"), kind);
  // 0 in either key means that there is no scaling.
  double factor = metadata.find_number("rope.scaling.factor", 0, kMaxFactor).value_or(-1);
  if (factor < 0) factor = metadata.find_number("rope.scale_linear", 0, kMaxFactor).value_or(0);
  if (factor == 0 || (factor == 1 && kind == "linear")) return;
  s.kind = kind;
  s.factor = factor;
  if (kind != "yarn") return;
  s.truncate = metadata.find_bool("rope.scaling.yarn_truncate").value_or(true);
  s.beta_fast = metadata.find_number("rope.scaling.yarn_beta_fast", 1e-3, kMaxFactor).value_or(32);
  s.beta_slow = metadata.find_number("rope.scaling.yarn_beta_slow", 1e-3, kMaxFactor).value_or(1);
  s.extrapolation = metadata.find_number("rope.scaling.yarn_ext_factor", 0, 1).value_or(1);
  if (s.attention_factor != 0) s.attention_factor *= yarn_magnitude(s.factor, 1);
}

void rope_to_gguf(const Hparams& h, GgufMetadata& metadata) {
  const std::string prefix = h.architecture + ".rope.";
  metadata.set(prefix + "dimension_count", GgufValue::u32(h.rope_dims));
  metadata.set(prefix + "freq_base", GgufValue::f32(static_cast<float>(h.rope_base)));
  if (h.local_rope_base != 0)
    metadata.set(prefix + "freq_base_swa", GgufValue::f32(static_cast<float>(h.local_rope_base)));
  const RopeScaling& s = h.rope_scaling;
  if (s.kind == "longrope") {
    metadata.set(prefix + "scaling.original_context_length", GgufValue::u32(s.original_context));
    metadata.set(prefix + "scaling.attn_factor", GgufValue::f32(static_cast<float>(s.attention_factor)));
  }
  if (s.kind != "linear" && s.kind != "yarn") return;
  metadata.set(prefix + "scaling.type", GgufValue::string(s.kind));
  metadata.set(prefix + "scaling.factor", GgufValue::f32(static_cast<float>(s.factor)));
  if (s.kind != "yarn") return;
  metadata.set(prefix + "scaling.original_context_length", GgufValue::u32(s.original_context));
  metadata.set(prefix + "scaling.yarn_beta_fast", GgufValue::f32(static_cast<float>(s.beta_fast)));
  metadata.set(prefix + "scaling.yarn_beta_slow", GgufValue::f32(static_cast<float>(s.beta_slow)));
  // Readers other than this one round the ramp's ends to whole dimensions all the same.
  if (!s.truncate) metadata.set(prefix + "scaling.yarn_truncate", GgufValue::boolean(false));
  // Readers of GGUF multiply this by 0.1 ln(factor) + 1 themselves.
  if (s.attention_factor != 0)
    metadata.set(prefix + "scaling.attn_factor",
                 GgufValue::f32(static_cast<float>(s.attention_factor / yarn_magnitude(s.factor, 1))));
}

RopeSpec make_rope(const Hparams& h, RopeSpec::Style style) {
  const RopeScaling& s = h.rope_scaling;
  RopeSpec spec;
  spec.style = style;
  spec.inverse_frequencies.resize(h.rope_dims / 2);
  const bool yarn = s.kind == "yarn";
  double low = 0, high = 0;
  if (yarn) {
    low = correction_dim(h, s.beta_fast);
    high = correction_dim(h, s.beta_slow);
    if (s.truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(0.0, low);
    high = std::min(h.rope_dims - 1.0, high);
  }
  for (size_t i = 0; i < spec.inverse_frequencies.size(); ++i) {
    double frequency = base_frequency(h, i);
    if (i < s.frequency_factors.size()) frequency /= s.frequency_factors[i];
    if (i < s.long_factors.size()) spec.long_inverse_frequencies.push_back(static_cast<float>(frequency / s.long_factors[i]));
    if (i < s.short_factors.size()) frequency /= s.short_factors[i];
    if (s.kind == "linear") frequency /= s.factor;
    if (yarn) {
      const double ramp = std::clamp((static_cast<double>(i) - low) / std::max(0.001, high - low), 0.0, 1.0);
      const double kept = (1 - ramp) * s.extrapolation;
      frequency = frequency / s.factor * (1 - kept) + frequency * kept;
    }
    spec.inverse_frequencies[i] = static_cast<float>(frequency);
  }
  if (yarn)
    spec.magnitude =
        static_cast<float>(s.attention_factor != 0 ? s.attention_factor : yarn_magnitude(s.factor, 1));
  if (s.kind == "longrope") {
    spec.long_from = s.original_context;
    if (s.attention_factor != 0) spec.magnitude = static_cast<float>(s.attention_factor);
  }
  return spec;
}

RopeSpec make_local_rope(const Hparams& h, RopeSpec::Style style) {
  if (h.local_rope_base == 0) return make_rope(h, style);
  Hparams local = h;
  local.rope_base = h.local_rope_base;
  local.rope_scaling = {};
  return make_rope(local, style);
}

}  // namespace tsubu
