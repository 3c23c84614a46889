#include "round/sim_format.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "codec/bitsandbytes.h"
#include "codec/small_floats.h"

namespace tsubu {
namespace {

constexpr uint64_t kScaleBits[] = {32, 16, 16, 8, 8};
constexpr std::string_view kScaleNames[] = {"f32", "f16", "bf16", "e8m0", "e4m3"};
constexpr uint64_t kMaxGroup = uint64_t{1} << 20;
constexpr double kMaxExponent = 16;

float e5m2_magnitude(int code) {
  const int exponent = code >> 2, mantissa = code & 3;
  return exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -16)
                       : std::ldexp(static_cast<float>(4 + mantissa), exponent - 17);
}

std::vector<float> mirrored(const std::vector<float>& magnitudes) {  // ascending from 0
  std::vector<float> levels;
  for (size_t i = magnitudes.size(); i-- > 1;) levels.push_back(-magnitudes[i]);
  levels.insert(levels.end(), magnitudes.begin(), magnitudes.end());
  return levels;
}

template <class F>
std::vector<float> mirrored(int n, F magnitude) {
  std::vector<float> values;
  for (int i = 0; i < n; ++i) values.push_back(magnitude(i));
  return mirrored(values);
}

[[noreturn]] void refuse(std::string_view spec, std::string_view what) {
  fail(ExitCode::kUsage, "format '{}': {} (such as int4:group=128, nf4:group=64:double, power3:4:channel)",
       spec.substr(0, 80), what);
}

std::vector<std::string_view> words_of(std::string_view spec) {
  std::vector<std::string_view> words;
  for (size_t begin = 0; begin <= spec.size();) {
    const size_t end = std::min(spec.find(':', begin), spec.size());
    words.push_back(spec.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

template <class T>
bool read(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

void set_integer_levels(SimFormat& f) {
  const int low = f.zero == SimZero::kNone ? -(1 << (f.code_bits - 1)) : 0;
  f.even = true;
  f.levels.clear();
  for (int i = 0; i < 1 << f.code_bits; ++i) f.levels.push_back(static_cast<float>(low + i));
  f.nearest_divisor = (static_cast<float>(1 << f.code_bits) - 1) / 2;
}

// The family's own settings; the number of words that it took.
size_t read_family(SimFormat& f, std::string_view spec, const std::vector<std::string_view>& words) {
  const std::string_view word = words[0];
  const auto group = [&](uint64_t n) {
    f.granularity = SimGranularity::kGroup;
    f.group = n;
  };
  f.family = word;
  if (word.starts_with("int")) {
    f.family = "int";
    if (!read(word.substr(3), f.code_bits) || f.code_bits < 2 || f.code_bits > 8) refuse(spec, "expected int2 to int8");
    set_integer_levels(f);
  } else if (word == "fp8_e4m3" || word == "fp8_e5m2") {
    f.code_bits = 8;
    f.levels = word == "fp8_e4m3" ? mirrored(127, [](int i) { return e4m3_to_f32(static_cast<uint32_t>(i)); })
                                  : mirrored(124, e5m2_magnitude);
    f.nearest_divisor = f.levels.back();
    f.scale = SimScale::kF32;
  } else if (word == "fp4" || word == "mxfp4" || word == "nvfp4") {
    f.levels = mirrored(8, [](int i) { return e2m1_to_f32(static_cast<uint32_t>(i)); });
    f.nearest_divisor = 6;
    group(word == "nvfp4" ? 16 : 32);
    if (word == "mxfp4") f.scale = SimScale::kE8m0;
    if (word == "nvfp4") f.scale = SimScale::kE4m3;
    f.tensor_scale = word == "nvfp4";
  } else if (word == "nf4" || word == "bnb_fp4") {
    if (word == "nf4") {
      f.levels.assign(std::begin(kNf4Map), std::end(kNf4Map));
    } else {
      std::vector<float> magnitudes(std::begin(kFp4Magnitudes), std::end(kFp4Magnitudes));
      std::sort(magnitudes.begin(), magnitudes.end());
      f.levels = mirrored(magnitudes);
    }
    f.scale = SimScale::kF32;
    group(64);
  } else if (word.starts_with("power")) {
    f.family = "power";
    if (!read(word.substr(5), f.exponent) || !(f.exponent >= 0.25 && f.exponent <= kMaxExponent))
      refuse(spec, "expected an exponent from 0.25 to 16 after 'power'");
    if (words.size() < 2 || !read(words[1], f.code_bits) || f.code_bits < 2 || f.code_bits > 8)
      refuse(spec, "expected 2 to 8 bits after the exponent");
    f.levels = mirrored(1 << (f.code_bits - 1),
                        [&](int i) { return static_cast<float>(std::pow(static_cast<double>(i), f.exponent)); });
    f.nearest_divisor = f.levels.back();
    return 2;
  } else if (word.starts_with("kmeans")) {
    f.family = "kmeans";
    if (!read(word.substr(6), f.code_bits) || f.code_bits < 1 || f.code_bits > 8)
      refuse(spec, "expected kmeans1 to kmeans8");
  } else {
    refuse(spec, "expected int, fp8_e4m3, fp8_e5m2, fp4, nf4, bnb_fp4, mxfp4, nvfp4, power or kmeans");
  }
  return 1;
}

}  // namespace

SimFormat SimFormat::parse(std::string_view spec) {
  const auto words = words_of(spec);
  SimFormat f;
  for (size_t i = read_family(f, spec, words); i < words.size(); ++i) {
    const std::string_view word = words[i];
    const bool fixed = f.family == "mxfp4" || f.family == "nvfp4";
    if (word.starts_with("group=") && !fixed) {
      f.granularity = SimGranularity::kGroup;
      if (!read(word.substr(6), f.group) || f.group < 2 || f.group > kMaxGroup)
        refuse(spec, "expected group=2 or more columns");
    } else if ((word == "channel" || word == "row") && !fixed) {
      f.granularity = SimGranularity::kChannel;
    } else if (word == "tensor" && !fixed && !f.has_tables()) {
      f.granularity = SimGranularity::kTensor;
    } else if ((word == "asym" || word == "asym=f16") && f.family == "int") {
      f.zero = word == "asym" ? SimZero::kInteger : SimZero::kHalf;
      set_integer_levels(f);
      f.nearest_divisor = f.levels.back();
    } else if (word == "sym" && f.family == "int") {
      f.zero = SimZero::kNone;
      set_integer_levels(f);
    } else if (word == "double" && (f.family == "nf4" || f.family == "bnb_fp4")) {
      f.double_quantized = true;
    } else if (word.starts_with("scale=") && !fixed && !f.has_tables()) {
      const auto name = std::find(std::begin(kScaleNames), std::begin(kScaleNames) + 4, word.substr(6));
      if (name == std::begin(kScaleNames) + 4) refuse(spec, "expected scale=f32, f16, bf16 or e8m0");
      f.scale = static_cast<SimScale>(name - std::begin(kScaleNames));
    } else {
      refuse(spec, fmt::format("'{}' is no word for {}", word.substr(0, 40), f.family));
    }
  }
  if (f.double_quantized && f.granularity == SimGranularity::kTensor) refuse(spec, "one scale cannot be 'double'");
  return f;
}

std::string SimFormat::name() const {
  std::string s = family;
  if (family == "int" || family == "kmeans") s += std::to_string(code_bits);
  if (family == "power") s += fmt::format("{}:{}", exponent, code_bits);
  if (family == "mxfp4" || family == "nvfp4") return s;
  if (granularity == SimGranularity::kGroup) s += fmt::format(":group={}", group);
  if (granularity == SimGranularity::kChannel) s += has_tables() ? ":row" : ":channel";
  if (granularity == SimGranularity::kTensor) s += ":tensor";
  if (zero != SimZero::kNone) s += zero == SimZero::kHalf ? ":asym=f16" : ":asym";
  if (double_quantized)
    s += ":double";
  else if (!has_tables())
    s += fmt::format(":scale={}", kScaleNames[static_cast<size_t>(scale)]);
  return s;
}

uint64_t SimFormat::total_bits(uint64_t n_rows, uint64_t n_cols) const {
  const uint64_t bits = static_cast<uint64_t>(code_bits), groups = n_groups(n_rows, n_cols);
  uint64_t per_group = 0, once = tensor_scale ? 32 : 0;
  if (has_tables()) {
    per_group = uint64_t{16} << code_bits;
  } else if (double_quantized) {
    per_group = 8;
    once += 32 * ((groups + kDoubleBlock - 1) / kDoubleBlock) + 32;
  } else {
    per_group = kScaleBits[static_cast<size_t>(scale)];
  }
  if (zero == SimZero::kInteger) per_group += bits;
  if (zero == SimZero::kHalf) per_group += 16;
  return n_rows * n_cols * bits + groups * per_group + once;
}

const std::vector<std::string_view>& sim_format_examples() {
  static const std::vector<std::string_view> kExamples = {"int2:group=64:asym",
                                                          "int3:group=128",
                                                          "int4:group=128",
                                                          "int4:group=64:asym=f16",
                                                          "int4:channel",
                                                          "int8:tensor",
                                                          "fp8_e4m3:channel",
                                                          "fp8_e5m2:channel",
                                                          "fp4:group=32",
                                                          "nf4:group=64",
                                                          "nf4:group=64:double",
                                                          "bnb_fp4:group=64",
                                                          "mxfp4",
                                                          "nvfp4",
                                                          "power3:4:channel",
                                                          "power1.5:4:group=128",
                                                          "kmeans4:row",
                                                          "kmeans3:group=128"};
  return kExamples;
}

}  // namespace tsubu
