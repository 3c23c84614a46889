// What is in a model's files, whether or not its architecture is known: metadata, tensors, types, bits per weight.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"

namespace tsubu {

struct InspectedFile {
  std::string path;
  uint64_t size_bytes = 0;
};

struct InspectedTensor {
  std::string name, type;
  std::vector<uint64_t> shape;  // outermost first
  uint64_t n_elements = 0, size_bytes = 0;
};

struct TypeShare {
  std::string type;
  uint64_t n_tensors = 0, n_weights = 0, size_bytes = 0;
  double bits_per_weight() const;
};

struct Inspection {
  std::string path, layout, architecture, name;  // layout: "gguf", "hf", or of quantized ones its name
  uint32_t version = 0;                          // of GGUF
  std::vector<InspectedFile> files;
  std::vector<InspectedTensor> tensors;          // in the files' order
  Json metadata;                                 // GGUF's, or config.json; long arrays are abbreviated
  Json hyper_parameters;                         // the part of the metadata that describes the architecture
  uint64_t size_bytes = 0, data_bytes = 0;       // of the files; of everything in them that is no metadata
  uint64_t n_weights = 0;

  double bits_per_weight() const;
  std::vector<TypeShare> types() const;          // by bytes, largest first
};

// A GGUF file (any shard) or a Hugging Face directory. Reads headers only.
Inspection inspect(const std::string& path);
Json to_json(const Inspection& inspection);

}  // namespace tsubu
