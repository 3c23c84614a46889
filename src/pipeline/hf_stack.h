// Tensors that hold all experts, as gpt-oss has them: written as floats, or as MXFP4 blocks; and those that hold keys and
// values of all heads, written as floats.
//   floats   P [E, K, N], biases P_bias [E, N]
//   heads    P [heads · (keys + values), K]
//   MXFP4    P_blocks U8 [E, N, K/32, 16], P_scales U8 [E, N, K/32]
// N = outputs of one expert times the number of sources, whose outputs take turns.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "calibrate/statistics.h"
#include "codec/type_info.h"
#include "pipeline/hf_tensors.h"
#include "pipeline/hf_writer.h"

namespace tsubu {

struct StackWritten {
  uint64_t size_bytes = 0;
  std::string method;  // "copy", "decode", "codes", "search"
  std::vector<uint64_t> shape;  // of the whole
};

// Every expert in turn: memory holds one.
StackWritten write_float_stack(const HfTensor& stack, const TypeInfo& type, HfWriter& writer, ThreadPool& pool);
// Blocks that are MXFP4 already stay as they are; others are searched, weighed by the inputs' mean squares where stats has
// them. Throws Error(kUnsupported) when columns are no multiple of 32.
StackWritten write_mxfp4_stack(const HfTensor& stack, const Statistics* stats, HfWriter& writer, ThreadPool& pool);
// Keys' and values' rows of all heads as Hugging Face has them, (heads · (keys + values), K).
std::vector<float> read_heads(const HfTensor& stack, ThreadPool& pool);
// ‖written − model's‖ / ‖model's‖ of all experts, read back from the matrix.
double stack_error(const HfTensor& stack, const QuantMatrix& written, ThreadPool& pool);

}  // namespace tsubu
