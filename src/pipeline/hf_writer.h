// A Hugging Face directory that is written: parts of any tensors in any order, then shards, index, configuration and the
// files that come along. Everything goes to OUTPUT.tsubu-part, which is renamed when it is whole.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/file.h"
#include "container/safetensors.h"

namespace tsubu {

class HfWriter {
 public:
  // Throws Error(kUsage) when output is there and not an empty directory.
  explicit HfWriter(const std::string& output);
  ~HfWriter();  // without commit(): nothing stays
  HfWriter(const HfWriter&) = delete;
  HfWriter& operator=(const HfWriter&) = delete;

  void add(const std::string& name, SafeDtype dtype, std::vector<uint64_t> shape, std::span<const std::byte> bytes);
  // The bytes of the tensor added last go on.
  void extend(std::span<const std::byte> bytes);
  // All shards, of at most shard_bytes unless one tensor is larger. Returns their names.
  std::vector<std::string> write_shards(uint64_t shard_bytes, const std::string& metadata_format);
  void write_json(const std::string& name, const Json& json);
  // tokenizer files, generation config, chat templates, licences: not weights, configurations of weights or their like.
  std::vector<std::string> copy_companions(const std::string& source);
  const std::string& folder() const { return folder_; }  // where it is until commit()
  void commit();

 private:
  struct Part {
    std::string name;
    SafeDtype dtype;
    std::vector<uint64_t> shape;
    uint64_t begin = 0, end = 0;  // in the spill file
  };
  std::string output_, folder_;
  std::unique_ptr<AtomicFile> spill_;
  std::vector<Part> parts_;
  bool committed_ = false;
};

}  // namespace tsubu
