// The GGUF v3 writer: header, metadata and tensor table, then each tensor's data padded to the alignment.
#include <bit>
#include <limits>

#include "base/checked.h"
#include "base/error.h"
#include "container/cursor.h"
#include "container/gguf.h"

namespace tsubu {
namespace {

constexpr uint64_t kDefaultAlignment = 32, kMaxAlignment = 1u << 20;

template <class T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_string(std::string& out, std::string_view text) {
  append<uint64_t>(out, text.size());
  out += text;
}

void append_array(std::string& out, const GgufArray& array) {
  append(out, static_cast<uint32_t>(array.element_type));
  append<uint64_t>(out, array.size());
  out.append(reinterpret_cast<const char*>(array.packed.data()), array.packed.size());
  for (const std::string& s : array.strings) append_string(out, s);
  for (const GgufArray& a : array.arrays) append_array(out, a);
}

// The low bytes of an integer are its two's complement at every narrower width.
void append_value(std::string& out, const GgufValue& v) {
  append(out, static_cast<uint32_t>(v.type));
  if (const auto* s = std::get_if<std::string>(&v.value)) return append_string(out, *s);
  if (const auto* a = std::get_if<GgufArray>(&v.value)) return append_array(out, *a);
  if (const auto* b = std::get_if<bool>(&v.value)) return append<uint8_t>(out, *b ? 1 : 0);
  if (const auto* d = std::get_if<double>(&v.value))
    return v.type == GgufValueType::kF32 ? append(out, static_cast<float>(*d)) : append(out, *d);
  const uint64_t bits = std::holds_alternative<uint64_t>(v.value) ? std::get<uint64_t>(v.value)
                                                                  : static_cast<uint64_t>(std::get<int64_t>(v.value));
  out.append(reinterpret_cast<const char*>(&bits), gguf_scalar_bytes(v.type));
}

}  // namespace

uint64_t GgufLayout::alignment() const {
  const GgufValue* value = metadata_.find("general.alignment");
  if (!value) return kDefaultAlignment;
  const auto alignment = value->as_uint();
  if (!alignment || !std::has_single_bit(*alignment) || *alignment > kMaxAlignment)
    fail(ExitCode::kBadInput, "general.alignment: expected a power of two from 1 to {}, found {}", kMaxAlignment,
         alignment ? std::to_string(*alignment) : "no unsigned integer");
  return *alignment;
}

void GgufLayout::declare(const std::string& name, std::vector<uint64_t> shape, const TypeInfo& type) {
  if (shape.size() > 4)
    fail(ExitCode::kBadInput, "tensor '{}': expected at most 4 dimensions, found {}", printable(name), shape.size());
  const uint64_t n_cols = shape.empty() ? 1 : shape.back();
  if (n_cols % type.block_len != 0)
    fail(ExitCode::kBadInput, "tensor '{}': expected rows of a multiple of {} columns for {}, found {} (choose a type "
         "with smaller blocks)", printable(name), type.block_len, type.name, n_cols);
  const auto n_elements = checked_product(shape);
  const auto bytes = n_elements ? checked_mul(*n_elements / type.block_len, type.block_bytes) : std::nullopt;
  if (!bytes || *bytes > uint64_t{std::numeric_limits<int64_t>::max()})
    fail(ExitCode::kBadInput, "tensor '{}': expected a size below 2^63 bytes, found {} of {}", printable(name),
         fmt::join(shape, " × "), type.name);
  if (!names_.insert(name).second)
    fail(ExitCode::kBadInput, "tensor '{}': expected every name once, found it twice", printable(name));
  declared_.push_back({name, std::move(shape), &type, *bytes});
}

std::string GgufLayout::header() const {
  const uint64_t align = alignment();
  std::string out = "GGUF";
  append<uint32_t>(out, 3);
  append<uint64_t>(out, declared_.size());
  append<uint64_t>(out, metadata_.items().size());
  for (const auto& [key, value] : metadata_.items()) {
    append_string(out, key);
    append_value(out, value);
  }
  uint64_t offset = 0;
  for (const Declared& d : declared_) {
    append_string(out, d.name);
    append(out, static_cast<uint32_t>(d.shape.size()));
    for (size_t i = d.shape.size(); i-- > 0;) append(out, d.shape[i]);
    append(out, d.type->gguf_id);
    append(out, offset);
    const auto end = checked_add(offset, d.bytes);
    const auto next = end ? checked_align(*end, align) : std::nullopt;
    if (!next) fail(ExitCode::kBadInput, "tensor '{}': all tensors together exceed 2^64 bytes", printable(d.name));
    offset = *next;
  }
  out.resize(*checked_align(out.size(), align));
  return out;
}

uint64_t GgufLayout::file_bytes() const {
  const uint64_t align = alignment();
  uint64_t total = header().size();
  for (const Declared& d : declared_) {
    const auto end = checked_add(total, d.bytes);
    const auto next = end ? checked_align(*end, align) : std::nullopt;
    if (!next) fail(ExitCode::kBadInput, "tensor '{}': all tensors together exceed 2^64 bytes", printable(d.name));
    total = *next;
  }
  return total;
}

std::vector<StreamedTensor> GgufLayout::tensors() const {
  std::vector<StreamedTensor> r;
  r.reserve(declared_.size());
  for (const Declared& d : declared_) r.push_back({d.name, d.bytes});
  return r;
}

GgufWriter::GgufWriter(const std::string& path, GgufLayout layout) : layout_(std::move(layout)), stream_(path) {}

void GgufWriter::declare(const std::string& name, std::vector<uint64_t> shape, const TypeInfo& type) {
  if (stream_.begun()) fail(ExitCode::kIo, "tensor '{}': declared after the data began", printable(name));
  layout_.declare(name, std::move(shape), type);
}

void GgufWriter::begin_data() { stream_.begin(layout_.header(), layout_.tensors(), layout_.alignment()); }

void GgufWriter::commit() {
  if (!stream_.begun()) begin_data();
  stream_.commit();
}

}  // namespace tsubu
