#include "base/size.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <vector>

#include "base/error.h"

namespace tsubu {
namespace {

struct Unit {
  std::string_view name;
  double bytes;
};
constexpr Unit kUnits[] = {
    {"", 1},           {"b", 1},          {"k", 0x1p10},     {"m", 0x1p20},     {"g", 0x1p30},
    {"t", 0x1p40},     {"kib", 0x1p10},   {"mib", 0x1p20},   {"gib", 0x1p30},   {"tib", 0x1p40},
    {"kb", 1e3},       {"mb", 1e6},       {"gb", 1e9},       {"tb", 1e12},
};

// The number a text starts with; rest gets what follows it, lower-cased, without blanks.
bool split_number(std::string_view text, double& number, std::string& rest) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (ec != std::errc() || !std::isfinite(number)) return false;
  for (const char* p = end; p != text.data() + text.size(); ++p)
    if (*p != ' ') rest += static_cast<char>(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
  return true;
}

}  // namespace

uint64_t parse_size_bytes(std::string_view text) {
  double number = 0;
  std::string unit;
  if (split_number(text, number, unit) && number >= 0)
    for (const Unit& u : kUnits)
      if (u.name == unit && number * u.bytes < 0x1p63) return static_cast<uint64_t>(std::llround(number * u.bytes));
  fail(ExitCode::kUsage, "'{}' is no size: expected a number with a unit, such as 6GiB, 500MB or 1234", text);
}

double parse_bits_per_weight(std::string_view text) {
  double number = 0;
  std::string unit;
  if (split_number(text, number, unit) && (unit.empty() || unit == "bpw") && number > 0 && number <= 64) return number;
  fail(ExitCode::kUsage, "'{}' is no number of bits per weight: expected something like 4.5 or 4.5bpw", text);
}

std::string format_size(uint64_t bytes) {
  static constexpr const char* kNames[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  size_t i = 0;
  while (value >= 1024 && i + 1 < std::size(kNames)) {
    value /= 1024;
    ++i;
  }
  return i == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.2f} {}", value, kNames[i]);
}

std::string format_duration(double seconds) {
  if (seconds < 10) return fmt::format("{:.1f}s", seconds);
  const auto s = static_cast<uint64_t>(std::llround(seconds));
  if (s < 60) return fmt::format("{}s", s);
  if (s < 3600) return fmt::format("{}m{:02}s", s / 60, s % 60);
  return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
}

std::string nearest_name(std::string_view word, const std::string* candidates, size_t n_candidates) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (size_t c = 0; c < n_candidates; ++c) {
    const std::string& name = candidates[c];
    std::vector<size_t> row(name.size() + 1);
    for (size_t j = 0; j <= name.size(); ++j) row[j] = j;
    for (size_t i = 1; i <= word.size(); ++i) {
      size_t diagonal = row[0];
      row[0] = i;
      for (size_t j = 1; j <= name.size(); ++j) {
        const size_t substituted = diagonal + (word[i - 1] != name[j - 1]);
        diagonal = row[j];
        row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
      }
    }
    if (row.back() < best_distance) {
      best_distance = row.back();
      best = name;
    }
  }
  return best;
}

}  // namespace tsubu
