#include "codec/scheme.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"

namespace tsubu {
namespace {

constexpr GranularityInfo kGranularities[] = {
    {"unit", Granularity::kUnit, true, true, true, "no scale: the value itself is rounded"},
    {"tensor", Granularity::kTensor, true, true, false, "one scale a tensor; activations: static, from --calib-text"},
    {"channel", Granularity::kChannel, true, false, false, "one scale a row of the weights (output channel)"},
    {"token", Granularity::kToken, false, true, true,
     "one scale a token, found as it comes; a cache: a token and head"},
    {"group=N", Granularity::kGroup, true, true, true, "one scale for N consecutive columns of a row"},
    {"block=N", Granularity::kBlock, true, false, false, "one scale for N x N weights"},
};

constexpr SchemePreset kPresets[] = {
    {"W8A8", "int8:channel", "int8:token", 0, "INT8, dynamic"},
    {"W8A8-static", "int8:channel", "int8:tensor", 0, "INT8, activation scales from calibration"},
    {"W8A16", "int8:channel", "", 0, "INT8 weights alone"},
    {"W4A16", "int4:group=128", "", 0, "INT4 weights alone"},
    {"W4A8", "int4:group=128", "int8:token", 0, "INT4 weights, INT8 activations"},
    {"W4A4", "int4:group=128", "int4:token", 0, "INT4"},
    {"FP8", "fp8_e4m3:tensor", "fp8_e4m3:tensor", 0, "FP8, activation scales from calibration"},
    {"FP8-dynamic", "fp8_e4m3:channel", "fp8_e4m3:token", 0, "FP8, dynamic"},
    {"FP8-block", "fp8_e4m3:block=128", "fp8_e4m3:group=128", 0, "FP8 in blocks, as DeepSeek-V3"},
    {"LLM.int8", "int8:channel", "int8:token", 6.0f, "INT8, outlier columns in float (2208.07339)"},
};

bool usable(const GranularityInfo& g, SchemeUse use) {
  if (use == SchemeUse::kWeights) return g.for_weights;
  return use == SchemeUse::kActivations ? g.for_activations : g.for_cache;
}

std::string_view name_of(SchemeUse use) {
  if (use == SchemeUse::kWeights) return "weights";
  return use == SchemeUse::kActivations ? "activations" : "a cache";
}

void append(std::string& list, std::string_view name) {
  if (!list.empty()) list += ", ";
  list += name;
}

std::string granularities_of(SchemeUse use) {
  std::string names;
  for (const GranularityInfo& g : kGranularities)
    if (usable(g, use)) append(names, g.name);
  return names;
}

bool same_name(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(x) == lower(y); });
}

uint64_t parts(uint64_t n, uint64_t size) { return (n + size - 1) / size; }

}  // namespace

std::string Scheme::name() const {
  std::string text(format->name);
  for (const GranularityInfo& g : kGranularities) {
    if (g.granularity != granularity) continue;
    const std::string_view word = g.name.substr(0, g.name.find('='));
    text += fmt::format(":{}", word);
    if (size > 0) text += fmt::format("={}", size);
  }
  return text;
}

size_t Scheme::columns_per_scale(size_t n_cols) const {
  const bool cuts = granularity == Granularity::kGroup || granularity == Granularity::kBlock;
  return cuts ? std::min<size_t>(size, n_cols) : n_cols;
}

uint64_t Scheme::n_scales(uint64_t n_rows, uint64_t n_cols) const {
  switch (granularity) {
    case Granularity::kUnit:
      return 0;
    case Granularity::kTensor:
      return 1;
    case Granularity::kChannel:
    case Granularity::kToken:
      return n_rows;
    case Granularity::kGroup:
      return n_rows * parts(n_cols, size);
    case Granularity::kBlock:
      return parts(n_rows, size) * parts(n_cols, size);
  }
  return 0;
}

double Scheme::bits_per_value(uint64_t n_rows, uint64_t n_cols) const {
  const auto n = static_cast<double>(n_rows) * static_cast<double>(n_cols);
  return format->bits + 32.0 * static_cast<double>(n_scales(n_rows, n_cols)) / n;
}

Scheme parse_scheme(std::string_view text, SchemeUse use) {
  const std::string_view shown = text.substr(0, 64);
  const size_t colon = text.find(':');
  Scheme scheme;
  scheme.format = find_number_format(text.substr(0, colon));
  if (!scheme.format) {
    std::string names;
    for (const NumberFormat& f : number_formats()) append(names, f.name);
    fail(ExitCode::kUsage, "scheme '{}': unknown number format: expected one of {} (tsubu schemes lists them)", shown,
         names);
  }
  std::string_view rest = use == SchemeUse::kWeights ? "channel" : "token";
  if (colon != std::string_view::npos) rest = text.substr(colon + 1);
  const size_t equals = rest.find('=');
  const std::string_view word = rest.substr(0, equals);
  const GranularityInfo* found = nullptr;
  for (const GranularityInfo& g : kGranularities)
    if (g.name.substr(0, g.name.find('=')) == word && usable(g, use)) found = &g;
  if (!found)
    fail(ExitCode::kUsage, "scheme '{}': '{}' is no granularity for {}: expected one of {}", shown, word.substr(0, 64),
         name_of(use), granularities_of(use));
  scheme.granularity = found->granularity;
  const bool wants_size = found->name.find('=') != std::string_view::npos;
  if (wants_size) {
    const std::string_view number = equals == std::string_view::npos ? "" : rest.substr(equals + 1);
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), scheme.size);
    if (error != std::errc() || end != number.data() + number.size() || scheme.size == 0 || scheme.size > 1u << 20)
      fail(ExitCode::kUsage, "scheme '{}': a {} needs a size of 1 … 1048576, such as {}=128", shown, word, word);
  } else if (equals != std::string_view::npos) {
    fail(ExitCode::kUsage, "scheme '{}': {} takes no size", shown, word);
  }
  if (scheme.granularity == Granularity::kUnit && scheme.format->is_integer)
    fail(ExitCode::kUsage, "scheme '{}': integers need a scale: choose one of {}", shown, granularities_of(use));
  return scheme;
}

std::span<const GranularityInfo> granularities() { return kGranularities; }

std::span<const SchemePreset> scheme_presets() { return kPresets; }

const SchemePreset& scheme_preset(std::string_view name) {
  std::string names;
  for (const SchemePreset& p : kPresets) {
    if (same_name(p.name, name)) return p;
    append(names, p.name);
  }
  fail(ExitCode::kUsage, "unknown scheme preset '{}': expected one of {} (or give --weights and --acts)",
       name.substr(0, 64), names);
}

}  // namespace tsubu
