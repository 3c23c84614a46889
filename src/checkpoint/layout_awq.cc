// AWQ (GEMM form): 4-bit integers packed along the outputs, eight to a word in the order 0 2 4 6 1 3 5 7.
//   P.qweight I32 [K, N/8]   P.qzeros I32 [G, N/8], as they are (no ± 1)   P.scales F16 [G, N]
//   w = scale · (code - zero)
// Source: AutoAWQ (awq/modules/linear/gemm.py, awq/utils/packing_utils.py).
#include "base/error.h"
#include "checkpoint/layout.h"
#include "checkpoint/layout_list.h"
#include "checkpoint/packed_bits.h"

namespace tsubu {
namespace {

class AwqMatrix : public QuantMatrix {
 public:
  AwqMatrix(const LayoutInput& in, const SafeTensor& qweight, const SafeTensor& qzeros, const SafeTensor& scales)
      : qweight_(qweight), qzeros_(qzeros), scales_(scales) {
    const Dims w = dims_of(in, qweight), z = dims_of(in, qzeros), s = dims_of(in, scales);
    if (z.rows != s.rows || z.cols != w.cols) bad_tensor(in, qzeros, fmt::format("[{}, {}]", s.rows, w.cols));
    const uint64_t said = in.config.find_uint("group_size").value_or(in.config.find_uint("q_group_size").value_or(0));
    const uint64_t group = said > 0 && (w.rows + said - 1) / said == s.rows ? said : (w.rows + s.rows - 1) / s.rows;
    set_shape(s.cols, w.rows, group);
    if (n_groups_ != s.rows) bad_tensor(in, scales, fmt::format("{} groups of {} inputs", n_groups_, group));
    code_bits_ = 4;
    levels_ = unsigned_levels(4);
    has_zeros_ = true;
    value_type_ = &type_of_floats(scales);
    kind_ = fmt::format("int4 group={}", group);
    parts_ = {&qweight, &qzeros, &scales};
  }

  void read_codes(uint64_t first, uint64_t n, uint8_t* codes) const override {
    const uint64_t words = qweight_.shape[1];
    for (uint64_t k = 0; k < n_cols_; ++k)
      for (uint64_t i = 0; i < n; ++i) codes[i * n_cols_ + k] = nibble(qweight_, k * words, first + i);
  }

  void read_scales(uint64_t first, uint64_t n, float* scales, float* zeros) const override {
    for (uint64_t i = 0; i < n; ++i)
      for (uint64_t g = 0; g < n_groups_; ++g) {
        scales[i * n_groups_ + g] = number_at(scales_, g * n_rows_ + first + i);
        zeros[i * n_groups_ + g] = nibble(qzeros_, g * qzeros_.shape[1], first + i);
      }
  }

 private:
  static uint8_t nibble(const SafeTensor& tensor, uint64_t first_word, uint64_t n) {
    return word_at(tensor, first_word + n / 8) >> (4 * kAwqPlace[n % 8]) & 15;
  }

  const SafeTensor &qweight_, &qzeros_, &scales_;
};

std::unique_ptr<QuantMatrix> open(const LayoutInput& in, const std::string& module) {
  const SafeTensor* qweight = in.find(module + ".qweight");
  const SafeTensor* qzeros = in.find(module + ".qzeros");
  const SafeTensor* scales = in.find(module + ".scales");
  if (!qweight || !qzeros || !scales || qweight->shape.size() != 2 || scales->shape.size() != 2) return nullptr;
  if (qweight->dtype != SafeDtype::kI32 || qzeros->dtype != SafeDtype::kI32 || !is_float(*scales)) return nullptr;
  if (qweight->shape[1] != scales->shape[1] / 8 || scales->shape[1] % 8 != 0) {
    const std::string version = in.config.string("version");
    if (in.config.method == "awq" && !version.empty() && version != "gemm" && version != "GEMM")
      fail(ExitCode::kUnsupported, "{}: AWQ version \"{}\" is not supported, \"gemm\" is", in.config.where, version);
    return nullptr;
  }
  return std::make_unique<AwqMatrix>(in, *qweight, *qzeros, *scales);
}

std::vector<StoredPart> store(const LayoutMatrix& w) {
  if (w.code_bits != 4 || w.n_rows % 8 != 0 || w.n_cols % w.group_columns != 0)
    fail(ExitCode::kUnsupported,
         "AWQ packs 4 bits, outputs in eights and whole groups, not {} x {} in groups of {} with {} bits", w.n_rows,
         w.n_cols, w.group_columns, w.code_bits);
  const uint64_t groups = w.n_groups(), words = w.n_rows / 8;
  std::vector<uint32_t> weight(w.n_cols * words), zeros(groups * words);
  std::vector<float> scales(groups * w.n_rows);
  for (uint64_t n = 0; n < w.n_rows; ++n) {
    const uint32_t shift = 4 * kAwqPlace[n % 8];
    for (uint64_t k = 0; k < w.n_cols; ++k)
      weight[k * words + n / 8] |= static_cast<uint32_t>(static_cast<int8_t>(w.codes[n * w.n_cols + k]) + 8) << shift;
    for (uint64_t g = 0; g < groups; ++g) {
      scales[g * w.n_rows + n] = w.scales[n * groups + g];
      zeros[g * words + n / 8] |= static_cast<uint32_t>(w.zeros.empty() ? 8 : w.zeros[n * groups + g] + 8) << shift;
    }
  }
  return {part_of(".qweight", SafeDtype::kI32, {w.n_cols, words}, weight),
          part_of(".qzeros", SafeDtype::kI32, {groups, words}, zeros),
          float_part(".scales", w.scale_type, {groups, w.n_rows}, scales)};
}

}  // namespace

const Layout kAwqLayout = {"awq",
                           "awq",
                           ".qweight",
                           "qweight I32 [K, N/8], qzeros I32 [G, N/8], scales F16 [G, N]",
                           "AWQ of AutoAWQ, version gemm, 4 bits",
                           open,
                           store,
                           true};

}  // namespace tsubu
