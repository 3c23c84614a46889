// Importance matrices: per-column mean squared activations of the linears' inputs, in llama.cpp's GGUF form and its
// legacy .dat form.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace tsubu {

struct ImatrixEntry {
  // n_matrices × n_cols sums of squares, and a token count for each matrix (1 unless experts). The legacy form knows no
  // experts: all matrices of a weight are one there, counted in chunks.
  std::vector<float> sum_squares;
  std::vector<float> counts;
  size_t n_cols() const { return counts.empty() ? 0 : sum_squares.size() / counts.size(); }
  // Mean squares of matrix m; all ones when its count is 0.
  std::vector<float> mean_squares(size_t m) const;
};

struct Imatrix {
  std::map<std::string, ImatrixEntry> entries;  // by weight name: "blk.0.attn_q.weight"
  std::vector<std::string> datasets;
  uint32_t chunk_count = 0, chunk_size = 0;

  // Either form, told apart by the magic. Throws Error(kBadInput) on anything malformed or not finite.
  static Imatrix load(const std::string& path);
  static Imatrix parse(std::span<const std::byte> bytes, const std::string& path);  // a file in memory
  void save_gguf(const std::string& path) const;
  void save_legacy(const std::string& path) const;
};

}  // namespace tsubu
