// How a cache holds keys and values: rows of head_dim floats as they are, as blocks of a codec (Q8_0, Q4_0, F16, …), or
// in a scheme of codec/scheme.h (fp8_e4m3:token: f32 scales, then codes; codes of 4 bits two to a byte, the even column
// in the low half).
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "codec/scheme.h"
#include "codec/type_info.h"

namespace tsubu {

class KvFormat {
 public:
  KvFormat() = default;  // f32
  // A codec's name or a scheme. Throws Error(kUsage).
  static KvFormat parse(std::string_view text);

  bool is_f32() const { return !type_ && !scheme_; }
  std::string name() const;
  // Throws Error(kUsage) when head_dim is no multiple of the block.
  size_t row_bytes(size_t head_dim) const;
  // x: head_dim floats. Throws Error(kNumeric) when one is not finite, unless the format is f32.
  void encode(const float* x, std::byte* row, size_t head_dim) const;
  void decode(const std::byte* row, float* x, size_t head_dim) const;

 private:
  const TypeInfo* type_ = nullptr;
  std::optional<Scheme> scheme_;
};

// "TYPE" for both, "KEYS/VALUES" for each.
struct KvFormats {
  KvFormat keys, values;
};
KvFormats parse_kv_formats(std::string_view text);

}  // namespace tsubu
