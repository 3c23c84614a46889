// GPTQ: integers packed along the inputs, zeros along the outputs.
//   P.qweight I32 [K·b/32, N]   column n is a stream of bits, little end first: code k at bits b·k
//   P.qzeros  I32 [G, N·b/32]   row g is a stream of bits: zero n at bits b·n; version 1 stores zero - 1 (modulo 2^b)
//   P.scales  F16 [G, N]        P.g_idx I32 [K]: group of each input; without it groups are runs of columns
//   w = scale · (code - zero)
// Files lie about their version: when every zero of a module is the symmetric 2^(b-1) it is version 2, when every one
// is 2^(b-1) - 1 version 1, whatever checkpoint_format says. Version 1 has at most 8 bits, in words of 32.
// Source: AutoGPTQ and GPTQModel (qlinear), issues vllm#26343 and vllm#38966 on the versions.
#include <algorithm>
#include <mutex>

#include "base/error.h"
#include "checkpoint/layout.h"
#include "checkpoint/layout_list.h"
#include "checkpoint/packed_bits.h"

namespace tsubu {
namespace {

class GptqMatrix : public QuantMatrix {
 public:
  GptqMatrix(const LayoutInput& in, const SafeTensor& qweight, const SafeTensor& qzeros, const SafeTensor& scales,
             const SafeTensor* g_idx)
      : qweight_(qweight), qzeros_(qzeros), scales_(scales) {
    const Dims w = dims_of(in, qweight), z = dims_of(in, qzeros), s = dims_of(in, scales);
    const uint64_t n = w.cols;
    if (s.cols != n) bad_tensor(in, scales, fmt::format("[groups, {}] as qweight's columns", n));
    if (z.rows != s.rows) bad_tensor(in, qzeros, fmt::format("{} rows as scales has", s.rows));
    bits_ = bits_of(n, z.cols, in.config.find_uint("bits").value_or(4));
    if (bits_ == 0) bad_tensor(in, qzeros, fmt::format("ceil({} · bits / 32) columns for 2, 3, 4 or 8 bits", n));
    const uint64_t k = g_idx ? g_idx->shape.at(0) : w.rows * 32 / bits_;
    if ((k * bits_ + 31) / 32 != w.rows) bad_tensor(in, qweight, fmt::format("{} rows for {} inputs", (k * bits_ + 31) / 32, k));
    uint64_t group = in.config.find_uint("group_size").value_or(0);
    if (group == 0 || (k + group - 1) / group != s.rows) group = (k + s.rows - 1) / s.rows;
    set_shape(n, k, group);
    if (n_groups_ != s.rows) bad_tensor(in, scales, fmt::format("{} groups of {} inputs", n_groups_, group));
    if (g_idx) read_groups(in, *g_idx);
    code_bits_ = static_cast<int>(bits_);
    levels_ = unsigned_levels(code_bits_);
    has_zeros_ = true;
    value_type_ = &type_of_floats(scales);
    const std::string format = in.config.string("checkpoint_format");
    says_v2_ = format == "gptq_v2" || in.config.string("format") == "gptq_v2";
    kind_ = fmt::format("int{} group={}{}", bits_, group, group_of_column_.empty() ? "" : " act-order");
    parts_ = {&qweight, &qzeros, &scales};
    if (g_idx) parts_.push_back(g_idx);
  }

  void read_codes(uint64_t first, uint64_t n, uint8_t* codes) const override {
    const uint64_t rows = qweight_.shape[0], cols = qweight_.shape[1];
    // Words of one row of the file are neighbors: a strip of outputs is read row by row.
    std::vector<uint32_t> column(rows + 1);
    for (uint64_t i = 0; i < n; ++i) {
      for (uint64_t r = 0; r < rows; ++r) column[r] = word_at(qweight_, r * cols + first + i);
      unpack_bits(column, bits_, n_cols_, codes + i * n_cols_);
    }
  }

  void read_scales(uint64_t first, uint64_t n, float* scales, float* zeros) const override {
    const uint32_t offset = is_v2() ? 0 : 1, mask = (1u << bits_) - 1;
    for (uint64_t i = 0; i < n; ++i)
      for (uint64_t g = 0; g < n_groups_; ++g) {
        scales[i * n_groups_ + g] = number_at(scales_, g * n_rows_ + first + i);
        zeros[i * n_groups_ + g] = static_cast<float>((stored_zero(g, first + i) + offset) & mask);
      }
  }

 private:
  // What the configuration says where it fits: few outputs leave a choice.
  static uint64_t bits_of(uint64_t n, uint64_t zero_words, uint64_t said) {
    for (uint64_t bits : {said, uint64_t{4}, uint64_t{8}, uint64_t{2}, uint64_t{3}})
      if ((bits == 2 || bits == 3 || bits == 4 || bits == 8) && (n * bits + 31) / 32 == zero_words) return bits;
    return 0;
  }

  void read_groups(const LayoutInput& in, const SafeTensor& g_idx) {
    bool runs = true;
    std::vector<uint32_t> groups(n_cols_);
    for (uint64_t k = 0; k < n_cols_; ++k) {
      groups[k] = word_at(g_idx, k);
      if (groups[k] >= n_groups_) bad_tensor(in, g_idx, fmt::format("groups below {}, not {} for input {}", n_groups_, groups[k], k));
      runs = runs && groups[k] == k / group_columns_;
    }
    if (!runs) group_of_column_ = std::move(groups);
  }

  uint32_t stored_zero(uint64_t g, uint64_t n) const {
    return bits_at(qzeros_, g * qzeros_.shape[1], n * bits_, static_cast<uint32_t>(bits_));
  }

  bool is_v2() const {
    std::call_once(sniffed_, [&] {
      const uint32_t middle = 1u << (bits_ - 1), first = stored_zero(0, 0);
      is_v2_ = says_v2_;
      if (first != middle && first + 1 != middle) return;
      for (uint64_t g = 0; g < n_groups_; ++g)
        for (uint64_t n = 0; n < n_rows_; ++n)
          if (stored_zero(g, n) != first) return;
      is_v2_ = first == middle;
    });
    return is_v2_;
  }

  const SafeTensor &qweight_, &qzeros_, &scales_;
  uint64_t bits_ = 4;
  bool says_v2_ = false;
  mutable std::once_flag sniffed_;
  mutable bool is_v2_ = false;
};

std::unique_ptr<QuantMatrix> open(const LayoutInput& in, const std::string& module) {
  const SafeTensor* qweight = in.find(module + ".qweight");
  const SafeTensor* qzeros = in.find(module + ".qzeros");
  const SafeTensor* scales = in.find(module + ".scales");
  const SafeTensor* g_idx = in.find(module + ".g_idx");
  if (!qweight || !qzeros || !scales || qweight->shape.size() != 2 || scales->shape.size() != 2) return nullptr;
  if (qweight->shape[1] != scales->shape[1] || !is_float(*scales)) return nullptr;  // AWQ packs along the outputs
  if (qweight->dtype != SafeDtype::kI32 || qzeros->dtype != SafeDtype::kI32) return nullptr;
  if (in.config.string("checkpoint_format") == "gptq_p" || in.config.string("format") == "gptq_p")
    fail(ExitCode::kUnsupported, "{}: checkpoint_format \"gptq_p\" (planes of bits) is not supported", in.config.where);
  if (g_idx && (g_idx->dtype != SafeDtype::kI32 || g_idx->shape.size() != 1 || g_idx->shape[0] == 0))
    bad_tensor(in, *g_idx, "I32, one for each input");
  return std::make_unique<GptqMatrix>(in, *qweight, *qzeros, *scales, g_idx);
}

// Symmetric: version 1. Asymmetric: version 2, whose zeros have no gap.
std::vector<StoredPart> store(const LayoutMatrix& w) {
  const auto bits = static_cast<uint64_t>(w.code_bits);
  const uint64_t groups = w.n_groups(), rows = (w.n_cols * bits + 31) / 32, zero_words = (w.n_rows * bits + 31) / 32;
  if ((bits != 2 && bits != 3 && bits != 4 && bits != 8) || w.n_cols * bits % 32 != 0 || w.n_rows * bits % 32 != 0)
    fail(ExitCode::kUnsupported, "GPTQ packs 2, 3, 4 or 8 bits of rows and columns that fill words of 32 bits, not {} x {} of {}",
         w.n_rows, w.n_cols, bits);
  const int half = 1 << (bits - 1);
  std::vector<uint32_t> weight(rows * w.n_rows), zeros(groups * zero_words), g_idx(w.n_cols);
  std::vector<uint8_t> row(w.n_cols), column(w.n_rows);
  for (uint64_t n = 0; n < w.n_rows; ++n) {
    for (uint64_t k = 0; k < w.n_cols; ++k) row[k] = static_cast<uint8_t>(static_cast<int8_t>(w.codes[n * w.n_cols + k]) + half);
    const std::vector<uint32_t> words = pack_bits(row.data(), w.n_cols, bits);
    for (uint64_t r = 0; r < rows; ++r) weight[r * w.n_rows + n] = words[r];
  }
  std::vector<float> scales(groups * w.n_rows);
  for (uint64_t g = 0; g < groups; ++g) {
    for (uint64_t n = 0; n < w.n_rows; ++n) {
      scales[g * w.n_rows + n] = w.scales[n * groups + g];
      column[n] = static_cast<uint8_t>(w.zeros.empty() ? half - 1 : w.zeros[n * groups + g] + half);
    }
    const std::vector<uint32_t> words = pack_bits(column.data(), w.n_rows, bits);
    std::copy(words.begin(), words.end(), zeros.begin() + static_cast<ptrdiff_t>(g * zero_words));
  }
  for (uint64_t k = 0; k < w.n_cols; ++k) g_idx[k] = static_cast<uint32_t>(k / w.group_columns);
  return {part_of(".qweight", SafeDtype::kI32, {rows, w.n_rows}, weight),
          part_of(".qzeros", SafeDtype::kI32, {groups, zero_words}, zeros),
          float_part(".scales", w.scale_type, {groups, w.n_rows}, scales),
          part_of(".g_idx", SafeDtype::kI32, {w.n_cols}, g_idx)};
}

}  // namespace

const Layout kGptqLayout = {"gptq",
                            "gptq",
                            ".qweight",
                            "qweight I32 [K·b/32, N], qzeros I32 [G, N·b/32], scales F16 [G, N], g_idx I32 [K]",
                            "GPTQ of AutoGPTQ and GPTQModel, 2, 3, 4 or 8 bits, both versions",
                            open,
                            store};

}  // namespace tsubu
