// The safetensors writer: the reference writer's order (dtype rank descending, then name), compact JSON, and a header
// padded with spaces to a multiple of 8, so that equal content gives equal bytes.
#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"
#include "container/cursor.h"
#include "container/safetensors.h"

namespace tsubu {
namespace {

std::string quoted(const std::string& text) {
  try {
    return Json(text).dump();
  } catch (const Json::exception&) {
    fail(ExitCode::kBadInput, "'{}': expected UTF-8 (safetensors names and metadata are JSON), found otherwise",
         printable(text));
  }
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::string& path) : stream_(path) {}

void SafetensorsWriter::set_metadata(const std::string& key, const std::string& value) { metadata_[key] = value; }

void SafetensorsWriter::declare(const std::string& name, SafeDtype dtype, std::vector<uint64_t> shape) {
  if (stream_.begun()) fail(ExitCode::kIo, "tensor '{}': declared after the data began", printable(name));
  if (name == "__metadata__") fail(ExitCode::kBadInput, "tensor '__metadata__': this name is reserved (rename it)");
  const auto bytes = safe_tensor_bytes(dtype, shape);
  if (!bytes)
    fail(ExitCode::kBadInput, "tensor '{}': expected a whole number of bytes below 2^60, found [{}] of {}",
         printable(name), fmt::join(shape, ", "), safe_dtype_name(dtype));
  if (!names_.insert(name).second)
    fail(ExitCode::kBadInput, "tensor '{}': expected every name once, found it twice", printable(name));
  declared_.push_back({name, dtype, std::move(shape), *bytes});
}

std::vector<SafetensorsWriter::Declared> SafetensorsWriter::in_file_order(std::vector<Declared> declared) {
  std::sort(declared.begin(), declared.end(), [](const Declared& a, const Declared& b) {
    return a.dtype != b.dtype ? a.dtype > b.dtype : a.name < b.name;
  });
  return declared;
}

std::string SafetensorsWriter::header(const std::map<std::string, std::string>& metadata,
                                      const std::vector<Declared>& sorted) {
  std::string out = "{\"__metadata__\":{";
  for (const auto& [key, value] : metadata) {
    if (out.back() != '{') out += ',';
    out += quoted(key) + ':' + quoted(value);
  }
  out += '}';
  uint64_t offset = 0;
  for (const Declared& d : sorted) {
    const auto end = checked_add(offset, d.bytes);
    if (!end) fail(ExitCode::kBadInput, "tensor '{}': all tensors together exceed 2^64 bytes", printable(d.name));
    out += fmt::format(",{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", quoted(d.name),
                       safe_dtype_name(d.dtype), fmt::join(d.shape, ","), offset, *end);
    offset = *end;
  }
  out += '}';
  out.resize(*checked_align(out.size(), 8), ' ');
  return out;
}

uint64_t SafetensorsWriter::predicted_bytes() const {
  // The length of the header depends on the offsets, and so on the order.
  const std::vector<Declared> sorted = in_file_order(declared_);
  uint64_t total = 8 + header(metadata_, sorted).size();
  for (const Declared& d : sorted) total += d.bytes;
  return total;
}

std::vector<std::string> SafetensorsWriter::begin_data() {
  declared_ = in_file_order(std::move(declared_));
  std::string text = header(metadata_, declared_);
  const uint64_t size = text.size();
  text.insert(0, reinterpret_cast<const char*>(&size), sizeof size);
  std::vector<std::string> order;
  std::vector<StreamedTensor> tensors;
  for (const Declared& d : declared_) {
    order.push_back(d.name);
    tensors.push_back({d.name, d.bytes});
  }
  stream_.begin(text, std::move(tensors), 1);
  return order;
}

void SafetensorsWriter::commit() {
  if (!stream_.begun()) begin_data();
  stream_.commit();
}

}  // namespace tsubu
