// A statistics file: what `calibrate` wrote, read by mmap. GGUF; an importance matrix that llama.cpp reads, and with
// Gram matrices more tensors beside it. All tensors are F32 and hold sums over tokens:
//   NAME.in_sum2  (n_cols)             Σx² of the input of the weight NAME          every linear
//   NAME.counts   (1)                  tokens                                       every linear
//   NAME.gram     (n_cols (n_cols+1)/2) Σ x_i x_j, upper triangle row by row        first linear of an input
//   NAME.sum      (n_cols)             Σx                                           the same
//   NAME.max      (n_cols)             max|x|                                       the same
//   NAME.out_gram                      Σ g_i g_j of output gradients           every linear but the head, with --fisher
//   NAME.out_counts (1)                tokens of those                          the same
// Blocks of out_gram: tsubu.calibrate.fisher_rows consecutive rows of the weight each, upper triangles row by row, one
// block after the other (calibrate/fisher.h).
// Linears that read one value share gram, sum and max; tsubu.calibrate.inputs lists them ("q,k,v": the first has them).
// The head is called output.weight, also where it is the token embedding. Experts: in_sum2 (n_matrices, n_cols), counts
// (n_matrices, 1).
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/aligned.h"
#include "container/gguf.h"

namespace tsubu {

inline constexpr std::string_view kSquaresSuffix = ".in_sum2", kCountsSuffix = ".counts", kGramSuffix = ".gram",
                                  kSumSuffix = ".sum", kMaxSuffix = ".max";
inline constexpr std::string_view kOutputGramSuffix = ".out_gram", kOutputCountsSuffix = ".out_counts";
inline constexpr const char* kFisherRowsKey = "tsubu.calibrate.fisher_rows";
inline constexpr const char* kInputsKey = "tsubu.calibrate.inputs";

class Statistics {
 public:
  // Throws Error(kBadInput) when it is no statistics file or its tensors do not fit each other. A legacy .dat file is
  // refused with advice: it is read by container/imatrix.h.
  static Statistics open(const std::string& path);

  // By weight name; a name that the file does not have is Error(kBadInput).
  bool has(std::string_view name) const;
  bool has_gram(std::string_view name) const;
  size_t n_cols(std::string_view name) const;
  uint64_t n_tokens(std::string_view name) const;
  std::vector<float> mean_squares(std::string_view name) const;  // ones without tokens
  // Of inputs with a Gram matrix:
  std::vector<float> gram(std::string_view name) const;  // n_cols × n_cols, whole; the sum over n_tokens(name)
  std::vector<float> means(std::string_view name) const;
  std::vector<float> max_abs(std::string_view name) const;
  // Linears that share this one's input, itself included; the first owns the Gram matrix. Empty without Gram matrices.
  std::vector<std::string> sharing(std::string_view name) const;

  // Of output gradients (tsubu calibrate --fisher); 0 rows: the file has none.
  size_t output_block_rows() const { return output_block_rows_; }
  bool has_output_gram(std::string_view name) const;
  // The mean over tokens for the block of rows of a weight of n_rows rows that begins at first_row: n × n.
  AlignedVector<float> output_gram(std::string_view name, size_t n_rows, size_t first_row) const;

  const GgufMetadata& metadata() const { return file_.metadata(); }
  const std::string& path() const { return path_; }

 private:
  std::span<const float> floats(std::string_view name, std::string_view suffix) const;
  std::string_view owner(std::string_view name) const;
  std::string path_;
  GgufFile file_;
  size_t output_block_rows_ = 0;
  std::vector<std::vector<std::string>> inputs_;
  std::map<std::string, size_t, std::less<>> input_of_;  // by weight
};

}  // namespace tsubu
