// Bounded reads of hyper-parameters; see config_reader.h.
#include "model/config_reader.h"

#include <cmath>

#include "base/error.h"

namespace tsubu {
namespace {

std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

std::string joined(std::initializer_list<std::string_view> keys) {
  std::string text;
  for (std::string_view key : keys) text += (text.empty() ? "" : " or ") + std::string(key);
  return text;
}

}  // namespace

ConfigReader::ConfigReader(const Json& config, std::string where) : config_(&config), where_(std::move(where)) {
  if (!config.is_object())
    fail(ExitCode::kBadInput, "{}: expected a JSON object, found {}", where_, shown(config));
}

const Json* ConfigReader::find(std::string_view key) const {
  const auto it = config_->find(std::string(key));
  return it == config_->end() || it->is_null() ? nullptr : &*it;
}

std::optional<uint64_t> ConfigReader::find_uint(std::initializer_list<std::string_view> keys, uint64_t low,
                                                uint64_t high) const {
  for (std::string_view key : keys) {
    const Json* value = find(key);
    if (!value) continue;
    std::optional<uint64_t> number;
    if (value->is_number_unsigned() || (value->is_number_integer() && value->get<int64_t>() >= 0))
      number = value->get<uint64_t>();
    if (value->is_number_float()) {
      const double d = value->get<double>();
      if (d >= 0 && d <= 0x1p53 && d == std::floor(d)) number = static_cast<uint64_t>(d);
    }
    if (number && *number >= low && *number <= high) return number;
    fail(ExitCode::kBadInput, "{}: {}: expected a whole number from {} to {}, found {}", where_, key, low, high,
         shown(*value));
  }
  return std::nullopt;
}

uint32_t ConfigReader::uint(std::initializer_list<std::string_view> keys, uint64_t low, uint64_t high) const {
  const auto number = find_uint(keys, low, high);
  if (!number) fail(ExitCode::kBadInput, "{}: {} is missing", where_, joined(keys));
  return static_cast<uint32_t>(*number);
}

std::optional<double> ConfigReader::find_number(std::string_view key, double low, double high) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  if (value->is_number()) {
    const double number = value->get<double>();
    if (number >= low && number <= high) return number;  // false for NaN
  }
  fail(ExitCode::kBadInput, "{}: {}: expected a number from {} to {}, found {}", where_, key, low, high, shown(*value));
}

std::optional<bool> ConfigReader::find_bool(std::string_view key) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_boolean())
    fail(ExitCode::kBadInput, "{}: {}: expected true or false, found {}", where_, key, shown(*value));
  return value->get<bool>();
}

std::optional<std::string> ConfigReader::find_string(std::string_view key) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_string()) fail(ExitCode::kBadInput, "{}: {}: expected a string, found {}", where_, key, shown(*value));
  return value->get<std::string>();
}

std::optional<ConfigReader> ConfigReader::find_object(std::string_view key) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  return ConfigReader(*value, where_ + ": " + std::string(key));
}

GgufReader::GgufReader(const GgufMetadata& metadata, std::string architecture, std::string where)
    : metadata_(&metadata), architecture_(std::move(architecture)), where_(std::move(where)) {}

std::optional<uint64_t> GgufReader::find_uint(std::string_view name, uint64_t low, uint64_t high) const {
  const GgufValue* value = metadata_->find(key(name));
  if (!value) return std::nullopt;
  std::optional<uint64_t> number = value->as_uint();
  if (value->as_array()) {
    const std::vector<int64_t> numbers = value->as_ints();
    for (int64_t n : numbers)
      if (n != numbers[0])
        fail(ExitCode::kUnsupported, "{}: metadata {}: values differ between layers, which is not supported", where_,
             key(name));
    if (!numbers.empty() && numbers[0] >= 0) number = static_cast<uint64_t>(numbers[0]);
  }
  if (!number)
    fail(ExitCode::kBadInput, "{}: metadata {}: expected a whole number from {} to {}, found another kind of value",
         where_, key(name), low, high);
  if (*number < low || *number > high)
    fail(ExitCode::kBadInput, "{}: metadata {}: expected a whole number from {} to {}, found {}", where_, key(name),
         low, high, *number);
  return number;
}

uint32_t GgufReader::uint(std::string_view name, uint64_t low, uint64_t high) const {
  const auto number = find_uint(name, low, high);
  if (!number) fail(ExitCode::kBadInput, "{}: metadata {} is missing", where_, key(name));
  return static_cast<uint32_t>(*number);
}

std::optional<double> GgufReader::find_number(std::string_view name, double low, double high) const {
  const GgufValue* value = metadata_->find(key(name));
  if (!value) return std::nullopt;
  const auto number = value->as_number();
  if (number && *number >= low && *number <= high) return number;
  fail(ExitCode::kBadInput, "{}: metadata {}: expected a number from {} to {}, found {}", where_, key(name), low, high,
       number ? fmt::format("{}", *number) : "another kind of value");
}

std::optional<std::string> GgufReader::find_string(std::string_view name) const {
  const GgufValue* value = metadata_->find(key(name));
  if (!value) return std::nullopt;
  const std::string* text = value->as_string();
  if (!text) fail(ExitCode::kBadInput, "{}: metadata {}: expected a string", where_, key(name));
  return *text;
}

void check_hparams(const Hparams& h, const std::string& where) {
  if (h.n_heads % h.n_kv_heads != 0)
    fail(ExitCode::kBadInput, "{}: {} attention heads are no multiple of {} key/value heads", where, h.n_heads,
         h.n_kv_heads);
  const uint64_t width = uint64_t{h.n_heads} * h.head_dim;
  if (width > kMaxWidth)
    fail(ExitCode::kBadInput, "{}: {} heads of {} are wider than {} in all", where, h.n_heads, h.head_dim, kMaxWidth);
  if (h.rope_dims % 2 != 0)
    fail(ExitCode::kBadInput, "{}: a head of {} cannot be rotated in pairs: expected an even number", where,
         h.rope_dims);
}

}  // namespace tsubu
