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

SafetensorsWriter::SafetensorsWriter(const std::string& path) : file_(path) {}

void SafetensorsWriter::set_metadata(const std::string& key, const std::string& value) { metadata_[key] = value; }

void SafetensorsWriter::declare(const std::string& name, SafeDtype dtype, std::vector<uint64_t> shape) {
  if (data_begun_) fail(ExitCode::kIo, "tensor '{}': declared after the data began", printable(name));
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
  if (data_begun_) fail(ExitCode::kIo, "the data of this file have begun already");
  declared_ = in_file_order(std::move(declared_));
  const std::string text = header(metadata_, declared_);
  const uint64_t size = text.size();
  file_.write(std::as_bytes(std::span(&size, 1)));
  file_.write(text);
  data_begun_ = true;
  skip_complete();
  std::vector<std::string> order;
  order.reserve(declared_.size());
  for (const Declared& d : declared_) order.push_back(d.name);
  return order;
}

void SafetensorsWriter::skip_complete() {
  while (next_ < declared_.size() && written_of_next_ == declared_[next_].bytes) {
    ++next_;
    written_of_next_ = 0;
  }
}

void SafetensorsWriter::write(std::span<const std::byte> bytes) {
  if (!data_begun_) fail(ExitCode::kIo, "data before begin_data()");
  if (bytes.empty()) return;
  if (next_ == declared_.size())
    fail(ExitCode::kIo, "expected no more data: all {} tensors are complete, found {} bytes", declared_.size(),
         bytes.size());
  const Declared& d = declared_[next_];
  if (bytes.size() > d.bytes - written_of_next_)
    fail(ExitCode::kIo, "tensor '{}': expected {} more bytes, found {}", printable(d.name), d.bytes - written_of_next_,
         bytes.size());
  file_.write(bytes);
  written_of_next_ += bytes.size();
  skip_complete();
}

void SafetensorsWriter::commit() {
  if (!data_begun_) begin_data();
  if (next_ < declared_.size())
    fail(ExitCode::kIo, "tensor '{}': expected {} bytes before the end, found {}", printable(declared_[next_].name),
         declared_[next_].bytes, written_of_next_);
  file_.commit();
}

}  // namespace tsubu
