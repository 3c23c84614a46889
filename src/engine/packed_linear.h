// Linears on packed weights without a tile of floats: 8-bit activations on codes (EngineOptions::act_int8), and one token
// of f32 activations on plain halves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/threads.h"
#include "engine/linear.h"
#include "kernel/packed_kernels.h"

namespace tsubu {

// Rows of activations in the codes that the weights of a linear want.
struct Int8Inputs {
  std::vector<int8_t> codes;
  std::vector<int32_t> sums;
  std::vector<float> scales;

  void assign(const float* x, size_t n_tokens, size_t n_cols, ActRounding rounding, ThreadPool& pool);
  Int8Rows rows() const { return {codes.data(), sums.data(), scales.data()}; }
  size_t size_bytes() const { return codes.size() + sums.size() * sizeof(int32_t) + scales.size() * sizeof(float); }
};

bool has_packed_product(const Linear& linear);  // with 8-bit activations
bool has_float_product(const Linear& linear);   // with one token of f32 activations

// As Linear::run. scratch: as there, grown where a tile needs more.
void run_packed(const Linear& linear, const Int8Inputs& x, float* y, size_t n_tokens,
                std::span<AlignedVector<float>> scratch, ThreadPool& pool);
void run_floats(const Linear& linear, const float* x, float* y, ThreadPool& pool);

}  // namespace tsubu
