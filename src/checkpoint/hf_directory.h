// A Hugging Face model directory: config.json beside model.safetensors (or the index and its shards), with plain floats
// or with the tensors of a quantized layout. What it cannot read it refuses with the reason: pickles, unknown dtypes.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/quantized_modules.h"
#include "codec/type_info.h"
#include "container/safetensors.h"

namespace tsubu {

struct HfDirectory {
  std::string path, config_path;
  Json config;
  std::vector<std::string> architectures;  // config.json's "architectures"; may be empty
  SafetensorsFile weights;
  QuantizationConfig quantization;
  QuantizedModules quantized;  // its references are into weights: a moved directory keeps them, a copied one does not

  HfDirectory() = default;
  HfDirectory(HfDirectory&&) = default;
  HfDirectory& operator=(HfDirectory&&) = default;

  // Throws Error(kBadInput / kUnsupported / kIo).
  static HfDirectory open(const std::string& path);

  // "org/name" of a hub cache snapshot, else the directory's own name: for general.name.
  std::string model_name() const;
};

// F32, F16 and BF16 have a codec; any other dtype is Error(kUnsupported) that names the tensor.
const TypeInfo& type_of_tensor(const SafeTensor& tensor, const std::string& where);

}  // namespace tsubu
