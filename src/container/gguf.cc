// The reader of one GGUF file: header, metadata, tensor table. Only these are touched; data stay behind the mapping.
#include "container/gguf.h"

#include <algorithm>
#include <numeric>

#include "base/checked.h"
#include "container/cursor.h"

namespace tsubu {
namespace {

constexpr uint32_t kMinVersion = 2, kMaxVersion = 3;
constexpr uint64_t kMaxKeyBytes = 65535;        // the specification's limit
constexpr uint64_t kMaxAlignment = 1u << 20;    // far above any in use; keeps padding arithmetic small
constexpr int kMaxArrayDepth = 4;
constexpr uint32_t kMaxDims = 4;                // GGML_MAX_DIMS
// The least bytes a thing takes in the file, which bound how many there can be.
constexpr uint64_t kMinKeyValueBytes = 8 + 4 + 1;   // key length, type, value
constexpr uint64_t kMinTensorBytes = 8 + 4 + 4 + 8; // name length, n_dims, type, offset
constexpr uint64_t kMinStringBytes = 8, kMinArrayBytes = 4 + 8;

std::string_view read_string(Cursor& in, std::string_view what) {
  return in.text(in.read_count(1, what), what);
}

GgufValueType read_value_type(Cursor& in, std::string_view key) {
  const uint64_t at = in.offset();
  const auto id = in.read<uint32_t>("value type");
  if (id > static_cast<uint32_t>(GgufValueType::kF64))
    in.bad_at(at, "key '{}': expected a value type from 0 to 12, found {} (the file is damaged, or newer than this "
              "program)", printable(key), id);
  return static_cast<GgufValueType>(id);
}

bool read_bool(Cursor& in, std::string_view key) {
  const uint64_t at = in.offset();
  const auto byte = in.read<uint8_t>("bool value");
  if (byte > 1) in.bad_at(at, "key '{}': expected a bool of 0 or 1, found {}", printable(key), byte);
  return byte == 1;
}

GgufArray read_array(Cursor& in, std::string_view key, int depth) {
  const uint64_t at = in.offset();
  if (depth > kMaxArrayDepth)
    in.bad_at(at, "key '{}': expected arrays nested at most {} deep, found more", printable(key), kMaxArrayDepth);
  GgufArray array;
  array.element_type = read_value_type(in, key);
  if (array.element_type == GgufValueType::kString) {
    const uint64_t n = in.read_count(kMinStringBytes, "array length");
    array.strings.reserve(n);
    for (uint64_t i = 0; i < n; ++i) array.strings.emplace_back(read_string(in, "array string"));
  } else if (array.element_type == GgufValueType::kArray) {
    const uint64_t n = in.read_count(kMinArrayBytes, "array length");
    array.arrays.reserve(n);
    for (uint64_t i = 0; i < n; ++i) array.arrays.push_back(read_array(in, key, depth + 1));
  } else {
    const uint64_t element_bytes = gguf_scalar_bytes(array.element_type);
    const uint64_t n = in.read_count(element_bytes, "array length");
    const uint64_t data_at = in.offset();
    const auto bytes = in.take(n * element_bytes, "array");  // cannot overflow: n ≤ remaining / element_bytes
    array.packed.assign(bytes.begin(), bytes.end());
    if (array.element_type == GgufValueType::kBool)
      for (size_t i = 0; i < bytes.size(); ++i)
        if (bytes[i] > std::byte{1})
          in.bad_at(data_at + i, "key '{}': expected bools of 0 or 1, found {}", printable(key),
                    static_cast<unsigned>(bytes[i]));
  }
  return array;
}

GgufValue read_value(Cursor& in, std::string_view key) {
  const GgufValueType type = read_value_type(in, key);
  switch (type) {
    case GgufValueType::kU8: return {type, uint64_t{in.read<uint8_t>("u8 value")}};
    case GgufValueType::kI8: return {type, int64_t{in.read<int8_t>("i8 value")}};
    case GgufValueType::kU16: return {type, uint64_t{in.read<uint16_t>("u16 value")}};
    case GgufValueType::kI16: return {type, int64_t{in.read<int16_t>("i16 value")}};
    case GgufValueType::kU32: return {type, uint64_t{in.read<uint32_t>("u32 value")}};
    case GgufValueType::kI32: return {type, int64_t{in.read<int32_t>("i32 value")}};
    case GgufValueType::kF32: return {type, double{in.read<float>("f32 value")}};
    case GgufValueType::kBool: return {type, read_bool(in, key)};
    case GgufValueType::kString: return {type, std::string(read_string(in, "string value"))};
    case GgufValueType::kArray: return {type, read_array(in, key, 1)};
    case GgufValueType::kU64: return {type, in.read<uint64_t>("u64 value")};
    case GgufValueType::kI64: return {type, in.read<int64_t>("i64 value")};
    case GgufValueType::kF64: return {type, in.read<double>("f64 value")};
  }
  in.bad_at(in.offset(), "key '{}': unknown value type", printable(key));
}

uint32_t read_magic_and_version(Cursor& in, const std::string& path) {
  const std::string_view magic = in.text(4, "magic");
  if (magic != "GGUF")
    in.bad_at(0, "magic: expected 'GGUF', found '{}' (this is no GGUF file)", printable(magic));
  const auto version = in.read<uint32_t>("version");
  if (version != 0 && (version & 0xffff) == 0)
    fail(ExitCode::kUnsupported, "{}@0x4: version: expected a little-endian file, found a big-endian one (convert it "
         "with gguf-py's gguf_convert_endian.py)", path);
  if (version == 1)
    fail(ExitCode::kUnsupported, "{}@0x4: version: expected 2 or 3, found 1, which has been obsolete since 2023 "
         "(get a newer file, or convert the original checkpoint again)", path);
  if (version > kMaxVersion)
    fail(ExitCode::kUnsupported, "{}@0x4: version: expected 2 or 3, found {} (the file is damaged, or newer than this "
         "program)", path, version);
  if (version < kMinVersion) in.bad_at(4, "version: expected 2 or 3, found {}", version);
  return version;
}

uint64_t alignment_of(const GgufMetadata& metadata, const Cursor& in) {
  const GgufValue* value = metadata.find("general.alignment");
  if (!value) return 32;
  const auto alignment = value->as_uint();
  if (!alignment || !std::has_single_bit(*alignment) || *alignment > kMaxAlignment)
    in.bad_at(in.offset(), "general.alignment: expected a power of two from 1 to {}, found {}", kMaxAlignment,
              alignment ? std::to_string(*alignment) : "no unsigned integer");
  return *alignment;
}

// What the table says of one tensor; offset is relative to the data's start. The location of the entry is kept for
// messages about its data.
struct TableEntry {
  GgufTensor tensor;
  uint64_t entry_at, bytes;
};

uint64_t checked_bytes(const Cursor& in, const GgufTensor& t, uint64_t entry_at) {
  const std::string name = printable(t.name);
  if (t.n_cols() % t.type->block_len != 0)
    in.bad_at(entry_at, "tensor '{}': expected rows of a multiple of {} columns for {}, found {}", name,
              t.type->block_len, t.type->name, t.n_cols());
  // Zeros count as ones here, so that no partial product of the shape overflows anywhere else either.
  uint64_t bound = 1;
  for (const uint64_t d : t.shape) {
    const auto product = checked_mul(bound, std::max<uint64_t>(d, 1));
    if (!product || *product > uint64_t{std::numeric_limits<int64_t>::max()})
      in.bad_at(entry_at, "tensor '{}': expected a number of elements below 2^63, found {}", name,
                fmt::join(t.shape, " × "));
    bound = *product;
  }
  const auto bytes = checked_mul(t.n_elements() / t.type->block_len, t.type->block_bytes);
  if (!bytes) in.bad_at(entry_at, "tensor '{}': expected a size below 2^64 bytes, found {} elements of {}", name,
                        t.n_elements(), t.type->name);
  return *bytes;
}

TableEntry read_tensor_entry(Cursor& in, uint64_t alignment) {
  TableEntry entry;
  entry.entry_at = in.offset();
  GgufTensor& t = entry.tensor;
  t.name = read_string(in, "tensor name");
  const auto n_dims = in.read<uint32_t>("number of dimensions");
  if (n_dims > kMaxDims)
    in.bad_at(entry.entry_at, "tensor '{}': expected at most {} dimensions, found {}", printable(t.name), kMaxDims,
              n_dims);
  t.shape.resize(n_dims);
  for (uint32_t i = n_dims; i-- > 0;) t.shape[i] = in.read<uint64_t>("dimension");
  const auto type_id = in.read<uint32_t>("tensor type");
  t.type = find_type(type_id);
  if (!t.type)
    in.bad_at(entry.entry_at, "tensor '{}': expected a known type, found type id {} (removed from the format, made by "
              "a fork, or newer than this program; `tsubu types` lists what is known)", printable(t.name), type_id);
  t.offset = in.read<uint64_t>("tensor offset");
  if (t.offset % alignment != 0)
    in.bad_at(entry.entry_at, "tensor '{}': expected an offset that is a multiple of {}, found {}", printable(t.name),
              alignment, t.offset);
  entry.bytes = checked_bytes(in, t, entry.entry_at);
  return entry;
}

void refuse_overlaps(const std::vector<TableEntry>& entries, const Cursor& in) {
  std::vector<const TableEntry*> sorted;
  sorted.reserve(entries.size());
  for (const TableEntry& e : entries)
    if (e.bytes > 0) sorted.push_back(&e);
  std::sort(sorted.begin(), sorted.end(),
            [](const TableEntry* a, const TableEntry* b) { return a->tensor.offset < b->tensor.offset; });
  for (size_t i = 1; i < sorted.size(); ++i) {
    const TableEntry &before = *sorted[i - 1], &after = *sorted[i];
    if (before.tensor.offset + before.bytes > after.tensor.offset)
      in.bad_at(after.entry_at, "tensor '{}': expected data apart from every other tensor's, found an overlap with "
                "'{}' (the file is damaged)", printable(after.tensor.name), printable(before.tensor.name));
  }
}

}  // namespace

uint64_t GgufTensor::n_elements() const {
  return std::accumulate(shape.begin(), shape.end(), uint64_t{1}, std::multiplies<>());
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto entry = index_.find(name);
  return entry == index_.end() ? nullptr : &tensors_[entry->second];
}

void GgufFile::add_tensor(GgufTensor tensor) {
  const auto [entry, is_new] = index_.try_emplace(tensor.name, tensors_.size());
  if (!is_new)
    fail(ExitCode::kBadInput, "{}@{:#x}: tensor '{}': expected every name once, found it twice", paths_[tensor.shard],
         tensor.offset, printable(tensor.name));
  tensors_.push_back(std::move(tensor));
}

GgufFile GgufFile::parse(std::span<const std::byte> bytes, const std::string& path) {
  Cursor in(bytes, path);
  GgufFile file;
  file.paths_ = {path};
  file.file_bytes_ = bytes.size();
  file.version_ = read_magic_and_version(in, path);
  const uint64_t n_tensors = in.read_count(kMinTensorBytes, "tensor count");
  const uint64_t n_keys = in.read_count(kMinKeyValueBytes, "metadata count");

  for (uint64_t i = 0; i < n_keys; ++i) {
    const uint64_t at = in.offset();
    const std::string key(read_string(in, "metadata key"));
    if (key.size() > kMaxKeyBytes)
      in.bad_at(at, "metadata key: expected at most {} bytes, found {}", kMaxKeyBytes, key.size());
    if (file.metadata_.find(key))
      in.bad_at(at, "key '{}': expected every key once, found it twice", printable(key));
    file.metadata_.set(key, read_value(in, key));
  }
  file.alignment_ = alignment_of(file.metadata_, in);

  std::vector<TableEntry> entries;
  entries.reserve(n_tensors);
  for (uint64_t i = 0; i < n_tensors; ++i) entries.push_back(read_tensor_entry(in, file.alignment_));

  const uint64_t data_start = *checked_align(in.offset(), file.alignment_);  // both are far below 2^63
  for (const TableEntry& e : entries) {
    const auto begin = checked_add(data_start, e.tensor.offset);
    if (!begin || !range_fits(*begin, e.bytes, bytes.size()))
      in.bad_at(e.entry_at, "tensor '{}': expected its {} bytes at offset {} of the data inside the file, found only "
                "{} bytes of data (the file is truncated or damaged: get it again)", printable(e.tensor.name), e.bytes,
                e.tensor.offset, bytes.size() - std::min<uint64_t>(data_start, bytes.size()));
  }
  refuse_overlaps(entries, in);

  file.tensors_.reserve(entries.size());
  for (TableEntry& e : entries) {
    e.tensor.offset += data_start;
    e.tensor.data = bytes.subspan(e.tensor.offset, e.bytes);
    file.add_tensor(std::move(e.tensor));
  }
  return file;
}

}  // namespace tsubu
