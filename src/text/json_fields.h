// Tokenizer files in JSON: objects with a hundred thousand keys, so keys are looked up in a tree (base/json.h keeps
// their order, which is quadratic there). Fields of the wrong kind read as absent.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace tsubu {

using JsonTree = nlohmann::json;

inline JsonTree parse_json_tree(std::string_view text, const std::string& where) {
  try {
    return JsonTree::parse(text.begin(), text.end());
  } catch (const JsonTree::exception& e) {
    fail(ExitCode::kBadInput, "{}: not valid JSON: {}", where, e.what());
  }
}

// Null when `object` is no object or has no such key.
inline const JsonTree& json_at(const JsonTree& object, const char* key) {
  static const JsonTree kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

inline std::optional<std::string> json_string(const JsonTree& value) {
  if (!value.is_string()) return std::nullopt;
  return value.get<std::string>();
}

inline std::optional<bool> json_bool(const JsonTree& value) {
  if (!value.is_boolean()) return std::nullopt;
  return value.get<bool>();
}

inline bool json_flag(const JsonTree& object, const char* key, bool otherwise = false) {
  return json_bool(json_at(object, key)).value_or(otherwise);
}

// A token id: an integer in [0, 2^31).
inline std::optional<int32_t> json_id(const JsonTree& value) {
  if (!value.is_number_integer()) return std::nullopt;
  if (value.is_number_unsigned()) {
    const auto id = value.get<uint64_t>();
    return id <= INT32_MAX ? std::optional(static_cast<int32_t>(id)) : std::nullopt;
  }
  const auto id = value.get<int64_t>();
  return id >= 0 && id <= INT32_MAX ? std::optional(static_cast<int32_t>(id)) : std::nullopt;
}

}  // namespace tsubu
