// The run-time view of the codec list: what a GGUF type id or a name means, and its reference encode and decode (compiled
// at the baseline ISA; kernel/ has the same algorithms per ISA, with the same bytes).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tsubu {

struct GridAccess;
struct LatticeAccess;

struct TypeInfo {
  std::string_view name;   // public spelling: "Q4_K", "IQ4_XS", "F16"
  uint32_t gguf_id;        // ggml_type on disk
  uint32_t block_len;      // weights per block
  uint32_t block_bytes;    // bytes per block
  bool is_quantized;       // false for F32, F16, BF16, F64, I8 … I64
  uint32_t index;          // position in the codec list, for tables
  // y[0..n) = decoded values; n is a multiple of block_len. Exact: the floats of the reference formula, bit for bit.
  void (*decode)(const std::byte* blocks, float* y, size_t n);
  // Encodes one row of n values (n a multiple of block_len). importance: n weights ≥ 0 per column (mean squared
  // activations) or nullptr. nullptr function when the type can only be decoded. x must be finite.
  void (*encode)(const float* x, const float* importance, std::byte* blocks, size_t n);
  // Upper bound of |decode(encode(x)) - x| / max|x of the block| for any finite x that the format's scale can express;
  // 0 when the type cannot be encoded.
  double max_relative_error;
  const GridAccess* grid;  // its blocks as codes on a grid (codec/grid.h), or nullptr
  const LatticeAccess* lattice;  // its blocks as points of a grid of several dimensions (codec/lattice.h), or nullptr
  std::string_view summary;  // one line for `tsubu types`
  // The type for rows that are no multiple of block_len: about the same bits in smaller blocks; empty: none.
  std::string_view fallback;

  double bits_per_weight() const { return 8.0 * block_bytes / block_len; }
};

// Every type, in the order of the codec list.
std::span<const TypeInfo> types();
// nullptr when there is none.
const TypeInfo* find_type(uint32_t gguf_id);
const TypeInfo* find_type(std::string_view name);  // case-insensitive
// Throws Error(kUsage) naming the nearest type.
const TypeInfo& type_named(std::string_view name);

// Bytes of n_rows rows of n_cols each; throws Error(kBadInput) when n_cols is no multiple of the block or it overflows.
uint64_t tensor_bytes(const TypeInfo& type, uint64_t n_rows, uint64_t n_cols);

}  // namespace tsubu
