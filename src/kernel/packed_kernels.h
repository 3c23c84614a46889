// Products of packed weights with activations in 8-bit codes: integer sums inside a block, then one fma a block in the
// order of the columns. An element has the same bits on every ISA, from either of the two ways to compute it, and
// whatever is computed beside it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/kernels.h"

namespace tsubu {

inline constexpr size_t kPackedRows = 16;  // rows of a tile

// Rows of activations as codes: x = scale · code, a scale for each block of 32 (Q8_0) or 256 (Q8_K) columns; sums of the
// codes of every 16 columns. Rows follow each other without gaps.
struct Int8Rows {
  const int8_t* codes;
  const int32_t* sums;
  const float* scales;
};

struct PackedKernels {
  // The codes of one row under the rules of Kernels::round_q8_0 and round_q8_k.
  void (*encode_q8_0)(const float* x, size_t n, int8_t* codes, int32_t* sums, float* scales);
  void (*encode_q8_k)(const float* x, size_t n, int8_t* codes, int32_t* sums, float* scales);
  // By TypeInfo::index; nullptr when the type is not on this path.
  // y[r] = row r · x, for one token.
  void (*dot_rows[kMaxTypes])(const std::byte* rows, size_t row_bytes, size_t n_rows, const Int8Rows& x, float* y,
                              size_t n_cols);
  size_t tile_tokens = 8;  // that tile_product is best given at a time
  // At most kPackedRows rows into a tile of packed_tile_bytes(n_cols), 64-byte aligned.
  void (*make_tile[kMaxTypes])(const std::byte* rows, size_t row_bytes, size_t n_rows, size_t n_cols, std::byte* tile);
  // y[t · ldy + r] = row r of the tile · token t.
  void (*tile_product[kMaxTypes])(const std::byte* tile, size_t n_rows, const Int8Rows& x, size_t n_tokens, float* y,
                                  size_t ldy, size_t n_cols);
  // y[r] = row r · x of f32 activations, for plain halves: the bits of decode, then gemm_nt.
  void (*float_dot_rows[kMaxTypes])(const std::byte* rows, size_t row_bytes, size_t n_rows, const float* x, float* y,
                                    size_t n_cols);
};

// A byte for each code, four for each scale and minimum (of 16 weights at least) and for d and offset (of 32 at least); on the
// tile unit two bytes for each code (of 256) instead, without scales.
constexpr size_t packed_tile_bytes(size_t n_cols) { return kPackedRows * (2 * n_cols + n_cols / 2); }

// Those of kernels().
const PackedKernels& packed_kernels();
// By the name of a runnable ISA.
const PackedKernels& packed_kernels_named(std::string_view isa);

}  // namespace tsubu
