// A Hugging Face model directory with plain floating-point weights: config.json beside model.safetensors (or the index
// and its shards). What it cannot read it refuses with the reason: quantized checkpoints, pickles, unknown dtypes.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "codec/type_info.h"
#include "container/safetensors.h"

namespace tsubu {

struct HfDirectory {
  std::string path, config_path;
  Json config;
  std::vector<std::string> architectures;  // config.json's "architectures"; may be empty
  SafetensorsFile weights;

  // Throws Error(kBadInput / kUnsupported / kIo).
  static HfDirectory open(const std::string& path);

  // "org/name" of a hub cache snapshot, else the directory's own name: for general.name.
  std::string model_name() const;
};

// F32, F16 and BF16 have a codec; any other dtype is Error(kUnsupported) that names the tensor.
const TypeInfo& type_of_tensor(const SafeTensor& tensor, const std::string& where);

}  // namespace tsubu
