// What each fuzz target does with its input; the unit tests replay the corpus and mutate small files through the same
// functions. Any bytes either parse or throw tsubu::Error, and every byte that a parsed file refers to can be read.
#pragma once

#include <cstdlib>
#include <span>

#include "base/error.h"
#include "container/gguf.h"
#include "container/imatrix.h"
#include "container/safetensors.h"

namespace tsubu {

// Reads all bytes in a way that is not optimized away.
inline void touch(std::span<const std::byte> bytes) {
  unsigned sum = 0;
  for (const std::byte b : bytes) sum += static_cast<unsigned>(b);
  asm volatile("" : : "r"(sum));
}

// True when the bytes are a valid file.
inline bool try_gguf(std::span<const std::byte> bytes) {
  try {
    const GgufFile file = GgufFile::parse(bytes, "input");
    (void)dump_json(file.metadata().to_json());
    for (const auto& [key, value] : file.metadata().items())
      if (file.metadata().find(key) != &value) std::abort();
    for (const GgufTensor& tensor : file.tensors()) {
      if (file.find(tensor.name) != &tensor) std::abort();
      touch(tensor.data);
    }
    return true;
  } catch (const Error&) {
    return false;
  }
}

inline bool try_safetensors(std::span<const std::byte> bytes) {
  try {
    const SafetensorsFile file = SafetensorsFile::parse(bytes, "input");
    for (const SafeTensor& tensor : file.tensors()) {
      if (file.find(tensor.name) != &tensor) std::abort();
      if (safe_tensor_bytes(tensor.dtype, tensor.shape) != tensor.data.size()) std::abort();
      touch(tensor.data);
    }
    return true;
  } catch (const Error&) {
    return false;
  }
}

inline bool try_imatrix(std::span<const std::byte> bytes) {
  try {
    const Imatrix file = Imatrix::parse(bytes, "input");
    for (const auto& [name, entry] : file.entries)
      for (size_t m = 0; m < entry.counts.size(); ++m)
        if (entry.mean_squares(m).size() != entry.n_cols()) std::abort();
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace tsubu
