// safetensors: single files and sharded directories by mmap; streaming atomic writer in the reference writer's order.
// Source: huggingface/safetensors README (format) and its validation rules: no holes, no overlap, header ≤ 100 MB.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "container/tensor_stream.h"

namespace tsubu {

// In the reference order (low to high alignment rank), with names and bits, in one table in safetensors.cc.
enum class SafeDtype : uint8_t {
  kBool, kF4, kF6E2M3, kF6E3M2, kU8, kI8, kF8E5M2, kF8E4M3, kF8E8M0, kF8E4M3FNUZ, kF8E5M2FNUZ,
  kI16, kU16, kF16, kBF16, kI32, kU32, kF32, kC64, kF64, kI64, kU64,
};
std::string_view safe_dtype_name(SafeDtype dtype);  // "BF16"
uint32_t safe_dtype_bits(SafeDtype dtype);
std::optional<SafeDtype> find_safe_dtype(std::string_view name);
// Bytes of a tensor; nullopt when they overflow or are no whole number.
std::optional<uint64_t> safe_tensor_bytes(SafeDtype dtype, std::span<const uint64_t> shape);

struct SafeTensor {
  std::string name;
  SafeDtype dtype = SafeDtype::kF32;
  std::vector<uint64_t> shape;  // outermost first
  std::span<const std::byte> data;
  uint32_t shard = 0;
};

class SafetensorsFile {
 public:
  // path: a .safetensors file, an index (NAME.safetensors.index.json beside its shards), or a directory holding
  // model.safetensors or model.safetensors.index.json.
  static SafetensorsFile open(const std::string& path);
  static SafetensorsFile parse(std::span<const std::byte> bytes, const std::string& path);  // one file in memory

  const std::vector<SafeTensor>& tensors() const { return tensors_; }  // file order
  const SafeTensor* find(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::vector<std::string>& paths() const { return paths_; }
  uint64_t file_bytes() const { return file_bytes_; }

 private:
  static SafetensorsFile open_index(const std::string& path);
  void add_shard(const std::string& path);
  void add_tensor(SafeTensor tensor);
  std::vector<SafeTensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  std::map<std::string, std::string> metadata_;
  std::vector<std::string> paths_;
  std::vector<MappedFile> files_;
  uint64_t file_bytes_ = 0;
};

// One output file. Tensors are declared, then their bytes are written in the order that order() gives (dtype rank
// descending, then name), in as many pieces as one likes.
class SafetensorsWriter {
 public:
  explicit SafetensorsWriter(const std::string& path);
  void set_metadata(const std::string& key, const std::string& value);  // "format":"pt" is always there
  void declare(const std::string& name, SafeDtype dtype, std::vector<uint64_t> shape);
  std::vector<std::string> begin_data();  // returns the order
  void write(std::span<const std::byte> bytes) { stream_.write(bytes); }
  void commit();
  uint64_t predicted_bytes() const;

 private:
  struct Declared { std::string name; SafeDtype dtype; std::vector<uint64_t> shape; uint64_t bytes; };
  static std::vector<Declared> in_file_order(std::vector<Declared> declared);
  static std::string header(const std::map<std::string, std::string>& metadata, const std::vector<Declared>& sorted);
  TensorStream stream_;
  std::map<std::string, std::string> metadata_{{"format", "pt"}};
  std::vector<Declared> declared_;
  std::set<std::string, std::less<>> names_;
};

}  // namespace tsubu
