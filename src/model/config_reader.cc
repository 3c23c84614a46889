// Bounded reads of hyper-parameters; see config_reader.h.
#include "model/config_reader.h"

#include <algorithm>
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

std::optional<std::vector<float>> ConfigReader::find_numbers(std::string_view key, double low, double high) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  std::vector<float> numbers;
  if (value->is_array())
    for (const Json& v : *value)
      if (v.is_number() && v.get<double>() >= low && v.get<double>() <= high) numbers.push_back(v.get<float>());
  if (value->is_array() && numbers.size() == value->size()) return numbers;
  fail(ExitCode::kBadInput, "{}: {}: expected a list of numbers from {} to {}, found {}", where_, key, low, high,
       shown(*value));
}

std::optional<std::vector<std::string>> ConfigReader::find_strings(std::string_view key) const {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  std::vector<std::string> strings;
  if (value->is_array())
    for (const Json& v : *value)
      if (v.is_string()) strings.push_back(v.get<std::string>());
  if (value->is_array() && strings.size() == value->size()) return strings;
  fail(ExitCode::kBadInput, "{}: {}: expected a list of strings, found {}", where_, key, shown(*value));
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

std::optional<bool> GgufReader::find_bool(std::string_view name) const {
  const GgufValue* value = metadata_->find(key(name));
  if (!value) return std::nullopt;
  const auto flag = value->as_bool();
  if (!flag) fail(ExitCode::kBadInput, "{}: metadata {}: expected true or false", where_, key(name));
  return flag;
}

std::optional<std::vector<bool>> GgufReader::find_layers(std::string_view name, uint32_t n) const {
  const GgufValue* value = metadata_->find(key(name));
  if (!value) return std::nullopt;
  if (const auto period = value->as_uint()) return layers_with_period(*period, n);
  const GgufArray* array = value->as_array();
  std::vector<bool> layers;
  if (array && array->element_type == GgufValueType::kBool)
    for (std::byte b : array->packed) layers.push_back(b != std::byte{0});
  for (int64_t v : value->as_ints()) layers.push_back(v != 0);
  if (layers.size() < n)
    fail(ExitCode::kBadInput, "{}: metadata {}: expected a value for each of {} layers, found {}", where_, key(name), n,
         layers.size());
  layers.resize(n);
  return layers;
}

std::vector<bool> layers_with_period(uint64_t period, uint32_t n) {
  std::vector<bool> layers(n);
  for (uint32_t i = 0; i < n; ++i) layers[i] = period == 0 || i % period + 1 < period;
  return layers;
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
  if (h.rope_dims > h.head_dim)
    fail(ExitCode::kBadInput, "{}: {} dimensions of a head of {} are to be rotated", where, h.rope_dims, h.head_dim);
  if (h.n_experts_used > h.n_experts || (h.n_experts > 0 && h.n_experts_used == 0))
    fail(ExitCode::kBadInput, "{}: {} of {} experts for each token: expected at least one and no more than there are",
         where, h.n_experts_used, h.n_experts);
  constexpr uint64_t kMostAtOnce = uint64_t{1} << 31;  // outputs of all experts for one token
  if (uint64_t{h.n_experts} * std::max(h.n_ff_expert, h.n_embd) > kMostAtOnce)
    fail(ExitCode::kBadInput, "{}: {} experts of {}: more than {} outputs in all", where, h.n_experts,
         std::max(h.n_ff_expert, h.n_embd), kMostAtOnce);
}

}  // namespace tsubu
