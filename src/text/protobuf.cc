#include "text/protobuf.h"

#include <bit>

#include "base/error.h"

namespace tsubu {

float ProtoField::as_float() const { return std::bit_cast<float>(static_cast<uint32_t>(value)); }

void ProtoReader::bad(std::string_view what) const {
  fail(ExitCode::kBadInput, "{}@{:#x}: {}; expected a protocol buffer, the file is damaged or of another kind", where_,
       base_ + at_, what);
}

uint64_t ProtoReader::varint() {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (at_ >= message_.size()) bad("a number is cut off");
    const auto byte = static_cast<uint8_t>(message_[at_++]);
    value |= uint64_t{byte & 0x7Fu} << shift;
    if ((byte & 0x80) == 0) return value;
  }
  bad("a number of more than ten bytes");
}

uint64_t ProtoReader::fixed(size_t n_bytes) {
  if (message_.size() - at_ < n_bytes) bad("a fixed-size number is cut off");
  uint64_t value = 0;
  for (size_t i = 0; i < n_bytes; ++i) value |= uint64_t{static_cast<uint8_t>(message_[at_ + i])} << (8 * i);
  at_ += n_bytes;
  return value;
}

std::optional<ProtoField> ProtoReader::next() {
  if (at_ == message_.size()) return std::nullopt;
  const uint64_t tag = varint();
  ProtoField field;
  if (tag >> 3 == 0 || tag >> 3 > 0x1FFFFFFF) bad("an impossible field number");
  field.number = static_cast<uint32_t>(tag >> 3);
  switch (tag & 7) {
    case 0:
      field.value = varint();
      return field;
    case 1:
      field.value = fixed(8);
      return field;
    case 5:
      field.value = fixed(4);
      return field;
    case 2: {
      const uint64_t size = varint();
      if (size > message_.size() - at_) bad("a field is longer than what is left");
      field.is_bytes = true;
      field.bytes = message_.substr(at_, static_cast<size_t>(size));
      at_ += static_cast<size_t>(size);
      return field;
    }
    default:
      bad("an unknown wire type");
  }
}

ProtoReader ProtoReader::nested(const ProtoField& field) const {
  if (!field.is_bytes) bad("a message was expected, found a number");
  return {field.bytes, where_, base_ + static_cast<size_t>(field.bytes.data() - message_.data())};
}

}  // namespace tsubu
