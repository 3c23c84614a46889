// Metadata values: their exact on-disk types, widening reads, and their JSON view.
#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "container/gguf.h"

namespace tsubu {
namespace {

struct ValueTypeFacts {
  std::string_view name;
  size_t scalar_bytes;
};
// Indexed by GgufValueType.
constexpr std::array<ValueTypeFacts, 13> kValueTypes = {{
    {"u8", 1}, {"i8", 1}, {"u16", 2}, {"i16", 2}, {"u32", 4}, {"i32", 4}, {"f32", 4}, {"bool", 1}, {"string", 0},
    {"array", 0}, {"u64", 8}, {"i64", 8}, {"f64", 8},
}};

template <class T>
T scalar_at(const GgufArray& array, size_t i) {
  T value;
  std::memcpy(&value, array.packed.data() + i * sizeof value, sizeof value);
  return value;
}

// Element i of a packed array with its own type kept; monostate when the element type is no number or bool.
using Scalar = std::variant<std::monostate, uint64_t, int64_t, double, bool>;
Scalar element(const GgufArray& array, size_t i) {
  switch (array.element_type) {
    case GgufValueType::kU8: return uint64_t{scalar_at<uint8_t>(array, i)};
    case GgufValueType::kI8: return int64_t{scalar_at<int8_t>(array, i)};
    case GgufValueType::kU16: return uint64_t{scalar_at<uint16_t>(array, i)};
    case GgufValueType::kI16: return int64_t{scalar_at<int16_t>(array, i)};
    case GgufValueType::kU32: return uint64_t{scalar_at<uint32_t>(array, i)};
    case GgufValueType::kI32: return int64_t{scalar_at<int32_t>(array, i)};
    case GgufValueType::kF32: return double{scalar_at<float>(array, i)};
    case GgufValueType::kBool: return scalar_at<uint8_t>(array, i) != 0;
    case GgufValueType::kU64: return scalar_at<uint64_t>(array, i);
    case GgufValueType::kI64: return scalar_at<int64_t>(array, i);
    case GgufValueType::kF64: return scalar_at<double>(array, i);
    case GgufValueType::kString:
    case GgufValueType::kArray: break;
  }
  return std::monostate{};
}

template <class T>
GgufValue packed_array(GgufValueType type, std::span<const T> values) {
  GgufArray array;
  array.element_type = type;
  const auto bytes = std::as_bytes(values);
  array.packed.assign(bytes.begin(), bytes.end());
  return {GgufValueType::kArray, std::move(array)};
}

Json array_to_json(const GgufArray& array, size_t max_array) {
  const size_t size = array.size();
  const size_t shown = max_array == 0 ? size : std::min(size, max_array);
  Json list = Json::array();
  for (size_t i = 0; i < shown; ++i) {
    if (array.element_type == GgufValueType::kString) {
      list.push_back(array.strings[i]);
    } else if (array.element_type == GgufValueType::kArray) {
      list.push_back(array_to_json(array.arrays[i], max_array));
    } else {
      std::visit([&](const auto& v) {
        if constexpr (!std::is_same_v<std::decay_t<decltype(v)>, std::monostate>) list.push_back(v);
      }, element(array, i));
    }
  }
  if (shown == size) return list;
  return Json{{"type", gguf_value_type_name(array.element_type)}, {"size", size}, {"first", std::move(list)}};
}

}  // namespace

std::string_view gguf_value_type_name(GgufValueType type) {
  const auto id = static_cast<uint32_t>(type);
  return id < kValueTypes.size() ? kValueTypes[id].name : "unknown";
}

size_t gguf_scalar_bytes(GgufValueType type) {
  const auto id = static_cast<uint32_t>(type);
  return id < kValueTypes.size() ? kValueTypes[id].scalar_bytes : 0;
}

size_t GgufArray::size() const {
  if (element_type == GgufValueType::kString) return strings.size();
  if (element_type == GgufValueType::kArray) return arrays.size();
  const size_t bytes = gguf_scalar_bytes(element_type);
  return bytes == 0 ? 0 : packed.size() / bytes;
}

GgufValue GgufValue::u32(uint32_t v) { return {GgufValueType::kU32, uint64_t{v}}; }
GgufValue GgufValue::i32(int32_t v) { return {GgufValueType::kI32, int64_t{v}}; }
GgufValue GgufValue::u64(uint64_t v) { return {GgufValueType::kU64, v}; }
GgufValue GgufValue::f32(float v) { return {GgufValueType::kF32, double{v}}; }
GgufValue GgufValue::boolean(bool v) { return {GgufValueType::kBool, v}; }
GgufValue GgufValue::string(std::string v) { return {GgufValueType::kString, std::move(v)}; }

GgufValue GgufValue::strings(std::vector<std::string> v) {
  GgufArray array;
  array.element_type = GgufValueType::kString;
  array.strings = std::move(v);
  return {GgufValueType::kArray, std::move(array)};
}

GgufValue GgufValue::i32s(std::span<const int32_t> v) { return packed_array(GgufValueType::kI32, v); }
GgufValue GgufValue::f32s(std::span<const float> v) { return packed_array(GgufValueType::kF32, v); }

GgufValue GgufValue::booleans(const std::vector<bool>& v) {
  GgufArray array;
  array.element_type = GgufValueType::kBool;
  for (bool b : v) array.packed.push_back(std::byte{b});
  return {GgufValueType::kArray, std::move(array)};
}

std::optional<uint64_t> GgufValue::as_uint() const {
  if (const auto* u = std::get_if<uint64_t>(&value)) return *u;
  if (const auto* i = std::get_if<int64_t>(&value); i && *i >= 0) return static_cast<uint64_t>(*i);
  return std::nullopt;
}

std::optional<int64_t> GgufValue::as_int() const {
  if (const auto* i = std::get_if<int64_t>(&value)) return *i;
  if (const auto* u = std::get_if<uint64_t>(&value); u && *u <= uint64_t{std::numeric_limits<int64_t>::max()})
    return static_cast<int64_t>(*u);
  return std::nullopt;
}

std::optional<double> GgufValue::as_number() const {
  if (const auto* d = std::get_if<double>(&value)) return *d;
  if (const auto* u = std::get_if<uint64_t>(&value)) return static_cast<double>(*u);
  if (const auto* i = std::get_if<int64_t>(&value)) return static_cast<double>(*i);
  return std::nullopt;
}

std::optional<bool> GgufValue::as_bool() const {
  if (const auto* b = std::get_if<bool>(&value)) return *b;
  return std::nullopt;
}

const std::string* GgufValue::as_string() const { return std::get_if<std::string>(&value); }
const GgufArray* GgufValue::as_array() const { return std::get_if<GgufArray>(&value); }

std::vector<int64_t> GgufValue::as_ints() const {
  const GgufArray* array = as_array();
  if (!array) return {};
  std::vector<int64_t> ints;
  ints.reserve(array->size());
  for (size_t i = 0; i < array->size(); ++i) {
    const Scalar scalar = element(*array, i);
    if (const auto* s = std::get_if<int64_t>(&scalar)) {
      ints.push_back(*s);
    } else if (const auto* u = std::get_if<uint64_t>(&scalar);
               u && *u <= uint64_t{std::numeric_limits<int64_t>::max()}) {
      ints.push_back(static_cast<int64_t>(*u));
    } else {
      return {};
    }
  }
  return ints;
}

std::vector<double> GgufValue::as_numbers() const {
  const GgufArray* array = as_array();
  if (!array) return {};
  std::vector<double> numbers;
  numbers.reserve(array->size());
  for (size_t i = 0; i < array->size(); ++i) {
    const Scalar scalar = element(*array, i);
    if (const auto* d = std::get_if<double>(&scalar))
      numbers.push_back(*d);
    else if (const auto* s = std::get_if<int64_t>(&scalar))
      numbers.push_back(static_cast<double>(*s));
    else if (const auto* u = std::get_if<uint64_t>(&scalar))
      numbers.push_back(static_cast<double>(*u));
    else
      return {};
  }
  return numbers;
}

void GgufMetadata::set(const std::string& key, GgufValue value) {
  const auto [entry, is_new] = index_.try_emplace(key, items_.size());
  if (is_new)
    items_.emplace_back(key, std::move(value));
  else
    items_[entry->second].second = std::move(value);
}

void GgufMetadata::erase(const std::string& key) {
  const auto entry = index_.find(key);
  if (entry == index_.end()) return;
  const size_t position = entry->second;
  items_.erase(items_.begin() + static_cast<std::ptrdiff_t>(position));
  index_.erase(entry);
  for (auto& [name, i] : index_)
    if (i > position) --i;
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto entry = index_.find(key);
  return entry == index_.end() ? nullptr : &items_[entry->second].second;
}

Json GgufMetadata::to_json(size_t max_array) const {
  // The object is filled as a list of pairs: ordered_json's operator[] searches all earlier keys.
  Json::object_t object;
  for (const auto& [key, v] : items_) {
    Json json = std::visit([&](const auto& held) -> Json {
      if constexpr (std::is_same_v<std::decay_t<decltype(held)>, GgufArray>)
        return array_to_json(held, max_array);
      else
        return held;
    }, v.value);
    object.emplace_back(key, std::move(json));
  }
  return object;
}

}  // namespace tsubu
