// A bounded reader of Protocol Buffers' wire format: nothing is copied, nothing is allocated, every length is checked.
// Source: protobuf.dev/programming-guides/encoding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace tsubu {

struct ProtoField {
  uint32_t number = 0;
  uint64_t value = 0;      // varint and fixed fields
  std::string_view bytes;  // length-delimited fields
  bool is_bytes = false;
  float as_float() const;  // of a fixed32 field
  bool as_bool() const { return value != 0; }
  int32_t as_int32() const { return static_cast<int32_t>(value); }
};

class ProtoReader {
 public:
  // `where` and `base` (offset of `message` in the file) are for messages.
  ProtoReader(std::string_view message, std::string where, size_t base = 0)
      : message_(message), where_(std::move(where)), base_(base) {}
  // The next field; nullopt at the end. Throws Error(kBadInput) on anything malformed.
  std::optional<ProtoField> next();
  // A reader for a length-delimited field of this message.
  ProtoReader nested(const ProtoField& field) const;

 private:
  uint64_t varint();
  uint64_t fixed(size_t n_bytes);
  [[noreturn]] void bad(std::string_view what) const;

  std::string_view message_;
  std::string where_;
  size_t base_;
  size_t at_ = 0;
};

}  // namespace tsubu
