// GGUF v3 (v2 read): metadata, tensor table, data by mmap; split files; streaming atomic writer.
// Source: the GGUF specification (ggml docs/gguf.md). Little-endian only; a big-endian file is refused with advice.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "codec/type_info.h"
#include "container/tensor_stream.h"

namespace tsubu {

enum class GgufValueType : uint32_t {
  kU8 = 0, kI8 = 1, kU16 = 2, kI16 = 3, kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7, kString = 8, kArray = 9,
  kU64 = 10, kI64 = 11, kF64 = 12,
};

// One metadata value with its exact on-disk type, so that copying a file changes nothing.
struct GgufValue;
struct GgufArray {
  GgufValueType element_type = GgufValueType::kU32;
  // Scalars packed as on disk (little-endian) when the element type is a number or bool:
  std::vector<std::byte> packed;
  std::vector<std::string> strings;   // when the element type is a string
  std::vector<GgufArray> arrays;      // when the element type is an array (nesting depth is bounded)
  size_t size() const;
};
struct GgufValue {
  GgufValueType type = GgufValueType::kU32;
  std::variant<uint64_t, int64_t, double, bool, std::string, GgufArray> value;

  static GgufValue u32(uint32_t v);
  static GgufValue i32(int32_t v);
  static GgufValue u64(uint64_t v);
  static GgufValue f32(float v);
  static GgufValue boolean(bool v);
  static GgufValue string(std::string v);
  static GgufValue strings(std::vector<std::string> v);
  static GgufValue i32s(std::span<const int32_t> v);
  static GgufValue f32s(std::span<const float> v);
  static GgufValue booleans(const std::vector<bool>& v);

  // Widening reads; nullopt when the value is of another kind or does not fit.
  std::optional<uint64_t> as_uint() const;
  std::optional<int64_t> as_int() const;
  std::optional<double> as_number() const;
  std::optional<bool> as_bool() const;
  const std::string* as_string() const;
  const GgufArray* as_array() const;
  std::vector<int64_t> as_ints() const;      // array of integers; empty when it is none
  std::vector<double> as_numbers() const;    // array of numbers; empty when it is none
};

// Metadata in file order. Keys are unique.
class GgufMetadata {
 public:
  void set(const std::string& key, GgufValue value);  // replaces in place, else appends
  void erase(const std::string& key);
  const GgufValue* find(std::string_view key) const;
  const std::vector<std::pair<std::string, GgufValue>>& items() const { return items_; }
  Json to_json(size_t max_array = 8) const;  // long arrays abbreviated; 0 = everything

 private:
  std::vector<std::pair<std::string, GgufValue>> items_;
  std::map<std::string, size_t, std::less<>> index_;
};

// "u32", "string", …; "unknown" for a number that is none of the enumeration.
std::string_view gguf_value_type_name(GgufValueType type);
// Bytes of one number or bool; 0 for strings, arrays and unknown types.
size_t gguf_scalar_bytes(GgufValueType type);

struct GgufTensor {
  std::string name;
  std::vector<uint64_t> shape;  // outermost first: {n_rows, n_cols}; GGUF stores the reverse. {n} for vectors.
  const TypeInfo* type = nullptr;
  std::span<const std::byte> data;
  uint64_t offset = 0;  // of the data in its file, for messages
  uint32_t shard = 0;
  uint64_t n_cols() const { return shape.empty() ? 1 : shape.back(); }
  uint64_t n_elements() const;
};

class GgufFile {
 public:
  // Opens one file or, given any shard of a split one (NAME-00001-of-000NN.gguf), all of them. Throws Error(kBadInput)
  // for anything malformed: the message has path@offset, what, expected, found, what to do.
  static GgufFile open(const std::string& path);

  uint32_t version() const { return version_; }
  uint64_t alignment() const { return alignment_; }
  const GgufMetadata& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* find(std::string_view name) const;
  const std::vector<std::string>& paths() const { return paths_; }
  uint64_t file_bytes() const { return file_bytes_; }

  // Parses the header of one file in memory (the fuzz target's entry); tensors point into bytes.
  static GgufFile parse(std::span<const std::byte> bytes, const std::string& path);

 private:
  void add_tensor(GgufTensor tensor);
  void open_shards(const std::string& path);
  uint32_t version_ = 0;
  uint64_t alignment_ = 32, file_bytes_ = 0;
  GgufMetadata metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  std::vector<std::string> paths_;
  std::vector<MappedFile> files_;
};

// What stands in a GGUF file before the data, and so the size of all of it: metadata and the declared tensors.
class GgufLayout {
 public:
  GgufMetadata& metadata() { return metadata_; }
  // Declares a tensor; order of declaration is order in the file. shape outermost first.
  void declare(const std::string& name, std::vector<uint64_t> shape, const TypeInfo& type);
  std::string header() const;    // padded to the alignment
  uint64_t alignment() const;    // general.alignment, else 32
  uint64_t file_bytes() const;   // the whole file's size
  std::vector<StreamedTensor> tensors() const;

 private:
  struct Declared { std::string name; std::vector<uint64_t> shape; const TypeInfo* type; uint64_t bytes; };
  GgufMetadata metadata_;
  std::vector<Declared> declared_;
  std::set<std::string, std::less<>> names_;
};

// Writes header, metadata and tensor table first (all shapes and types are known), then the data in order.
class GgufWriter {
 public:
  explicit GgufWriter(const std::string& path, GgufLayout layout = {});
  GgufMetadata& metadata() { return layout_.metadata(); }
  void declare(const std::string& name, std::vector<uint64_t> shape, const TypeInfo& type);
  // After all declarations and metadata: writes everything before the data.
  void begin_data();
  // The next tensor's bytes, in as many pieces as one likes; moves on when it is complete.
  void write(std::span<const std::byte> bytes) { stream_.write(bytes); }
  void commit();  // Error(kIo) unless every declared tensor is complete
  uint64_t size_bytes() const { return stream_.file().size(); }
  bool found_leftover() const { return stream_.file().found_leftover(); }
  // Size of the whole file as it will be, once everything is declared.
  uint64_t predicted_bytes() const { return layout_.file_bytes(); }

 private:
  GgufLayout layout_;
  TensorStream stream_;
};

}  // namespace tsubu
