// Hyper-parameters out of config.json and out of GGUF metadata, with bounds: what comes back is a number that sizes can
// be computed from without overflow, or an Error(kBadInput) that names the key, what was expected and what was found.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "container/gguf.h"
#include "model/architecture.h"

namespace tsubu {

// Far above any model that exists, low enough that products of two fit 64 bits and lists by layer stay small.
inline constexpr uint64_t kMaxLayers = 4096;
inline constexpr uint64_t kMaxWidth = uint64_t{1} << 20;   // embedding, heads × head size
inline constexpr uint64_t kMaxFfn = uint64_t{1} << 24;
inline constexpr uint64_t kMaxHeads = uint64_t{1} << 14;
inline constexpr uint64_t kMaxExperts = uint64_t{1} << 12;
inline constexpr uint64_t kMaxHeadDim = uint64_t{1} << 14;
inline constexpr uint64_t kMaxVocab = uint64_t{1} << 26;
inline constexpr uint64_t kMaxContext = uint64_t{1} << 31;

// One JSON object of a config. A key that is null counts as absent.
class ConfigReader {
 public:
  // Throws Error(kBadInput) when config is no object.
  ConfigReader(const Json& config, std::string where);

  const Json* find(std::string_view key) const;
  // The first of the keys that is there. Integers may be written as 4096.0.
  std::optional<uint64_t> find_uint(std::initializer_list<std::string_view> keys, uint64_t low, uint64_t high) const;
  uint32_t uint(std::initializer_list<std::string_view> keys, uint64_t low, uint64_t high) const;  // must be there
  std::optional<double> find_number(std::string_view key, double low, double high) const;
  std::optional<bool> find_bool(std::string_view key) const;
  std::optional<std::string> find_string(std::string_view key) const;
  std::optional<ConfigReader> find_object(std::string_view key) const;
  std::optional<std::vector<float>> find_numbers(std::string_view key, double low, double high) const;
  std::optional<std::vector<std::string>> find_strings(std::string_view key) const;
  const std::string& where() const { return where_; }

 private:
  const Json* config_;
  std::string where_;
};

// The keys "<architecture>.<name>" of a GGUF file.
class GgufReader {
 public:
  GgufReader(const GgufMetadata& metadata, std::string architecture, std::string where);

  // An array whose elements are all the same counts as that number (per-layer values); other arrays are
  // Error(kUnsupported).
  std::optional<uint64_t> find_uint(std::string_view name, uint64_t low, uint64_t high) const;
  uint32_t uint(std::string_view name, uint64_t low, uint64_t high) const;  // must be there
  std::optional<double> find_number(std::string_view name, double low, double high) const;
  std::optional<std::string> find_string(std::string_view name) const;
  std::optional<bool> find_bool(std::string_view name) const;
  // For each of n layers: an array, or a period P, where every P-th layer is false; nullopt when the key is not there.
  std::optional<std::vector<bool>> find_layers(std::string_view name, uint32_t n) const;
  std::string key(std::string_view name) const { return architecture_ + "." + std::string(name); }
  const std::string& where() const { return where_; }

 private:
  const GgufMetadata* metadata_;
  std::string architecture_, where_;
};

// Every `period`-th of n layers is false, the others are true: (period - 1) layers with a window, then one without.
std::vector<bool> layers_with_period(uint64_t period, uint32_t n);

// Relations between the numbers that every architecture here relies on (heads divide, the head size is even when it is
// rotated, …). Throws Error(kBadInput).
void check_hparams(const Hparams& h, const std::string& where);

}  // namespace tsubu
