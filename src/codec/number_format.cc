#include "codec/number_format.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

namespace tsubu {
namespace {

constexpr NumberFormat integer(std::string_view name, uint32_t bits, std::string_view summary) {
  const auto largest = static_cast<float>((1 << (bits - 1)) - 1);
  return {name, bits, true, 0, 0, {largest, 0x1p7f, 0x1p-7f}, summary};
}

constexpr float power_of_two(int exponent) { return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23); }

constexpr NumberFormat floating(std::string_view name, uint32_t bits, int mantissa_bits, int bias, float largest,
                                std::string_view summary) {
  return {name,   bits, false, mantissa_bits, bias, {largest, power_of_two(1 - bias), power_of_two(-mantissa_bits)},
          summary};
}

constexpr NumberFormat kFormats[] = {
    integer("int8", 8, "integers -127 … 127"),
    integer("int7", 7, "integers -63 … 63"),
    integer("int6", 6, "integers -31 … 31"),
    integer("int5", 5, "integers -15 … 15"),
    integer("int4", 4, "integers -7 … 7"),
    integer("int3", 3, "integers -3 … 3"),
    integer("int2", 2, "integers -1 … 1"),
    floating("fp8_e4m3", 8, 3, 7, 448, "floats to ±448, 3 mantissa bits"),
    floating("fp8_e5m2", 8, 2, 15, 57344, "floats to ±57344, 2 mantissa bits"),
    floating("fp6_e3m2", 6, 2, 3, 28, "floats to ±28, 2 mantissa bits"),
    floating("fp6_e2m3", 6, 3, 1, 7.5f, "floats to ±7.5, 3 mantissa bits"),
    floating("fp4_e2m1", 4, 1, 1, 6, "0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives"),
};
constexpr size_t kNumberFormats = std::size(kFormats);

using ValueTable = std::array<std::array<float, 256>, kNumberFormats>;

const ValueTable& value_table() {
  static const ValueTable table = [] {
    ValueTable t;
    for (size_t f = 0; f < kNumberFormats; ++f)
      for (size_t code = 0; code < 256; ++code) t[f][code] = kFormats[f].decode(static_cast<uint8_t>(code));
    return t;
  }();
  return table;
}

}  // namespace

uint8_t NumberFormat::encode(float x) const {
  const float magnitude = std::min(std::abs(x), rule.largest);
  const float power =
      std::max(std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) & 0x7f800000u), rule.lowest_power);
  const auto steps = static_cast<int>(std::nearbyint(magnitude / (power * rule.step)));
  if (is_integer) return static_cast<uint8_t>(x < 0 ? -steps : steps);
  // A step count of 2^mantissa_bits or more carries its leading bit into the exponent field.
  const int octaves = static_cast<int>(std::bit_cast<uint32_t>(power) >> 23) - 127 - (1 - bias);
  const int code = (octaves << mantissa_bits) + steps;
  const int sign = x < 0 && code != 0 ? 1 << (bits - 1) : 0;
  return static_cast<uint8_t>(sign | code);
}

float NumberFormat::decode(uint8_t code) const {
  if (is_integer) {
    const uint32_t unused = 8 - bits;
    return static_cast<float>(static_cast<int8_t>(code << unused) >> unused);
  }
  const int low = code & ((1 << bits) - 1), magnitude = low & ((1 << (bits - 1)) - 1);
  const bool negative = low != magnitude;
  const int exponent = magnitude >> mantissa_bits, mantissa = magnitude & ((1 << mantissa_bits) - 1);
  const auto step = static_cast<double>(rule.lowest_power) * static_cast<double>(rule.step);
  const double value =
      exponent == 0 ? mantissa * step : std::ldexp((1 << mantissa_bits) + mantissa, exponent - 1) * step;
  auto result = static_cast<float>(value);
  if (value > static_cast<double>(rule.largest)) {
    // Codes above the largest: E4M3's is NaN, E5M2's first is infinity and the others are NaN.
    const bool infinite = mantissa == 0;
    result = infinite ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  }
  return negative ? -result : result;
}

std::span<const float, 256> NumberFormat::values() const { return value_table()[static_cast<size_t>(this - kFormats)]; }

std::span<const NumberFormat> number_formats() { return kFormats; }

const NumberFormat* find_number_format(std::string_view name) {
  if (name == "fp8") name = "fp8_e4m3";
  if (name == "fp4") name = "fp4_e2m1";
  for (const NumberFormat& f : kFormats)
    if (f.name == name) return &f;
  return nullptr;
}

}  // namespace tsubu
