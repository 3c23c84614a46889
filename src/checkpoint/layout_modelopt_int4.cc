// ModelOpt W4A16_AWQ: P.weight U8 [N/2, K], output 2i in the low nibble and 2i + 1 in the high one, two's complement;
// P.weight_scale [N, K/g]; P.pre_quant_scale [K], where it is, multiplies the inputs and so the columns.
// Source: NVIDIA Model-Optimizer (export/quant_utils.py).
#include "base/error.h"
#include "checkpoint/layout.h"
#include "checkpoint/layout_list.h"

namespace tsubu {
namespace {

class ModeloptInt4Matrix : public QuantMatrix {
 public:
  ModeloptInt4Matrix(const LayoutInput& in, const SafeTensor& weight, const SafeTensor& scale, const SafeTensor* inputs)
      : weight_(weight) {
    const Dims w = dims_of(in, weight);
    grid_ = scale_grid_of(in, scale, 2 * w.rows, w.cols, {1, in.config.find_uint("group_size").value_or(128)});
    if (grid_.row_step != 1) bad_tensor(in, scale, "a row of scales for each output");
    set_shape(2 * w.rows, w.cols, grid_.group_columns);
    code_bits_ = 4;
    levels_ = signed_levels(4);
    value_type_ = inputs ? &type_named("F32") : &value_type_of(in, scale);
    kind_ = "int4 " + grid_.kind;
    parts_ = {&weight, &scale};
    if (!inputs) return;
    if (!is_float(*inputs) || inputs->shape != std::vector<uint64_t>{w.cols}) bad_tensor(in, *inputs, "a float for each input");
    for (uint64_t k = 0; k < w.cols; ++k) column_scale_.push_back(number_at(*inputs, k));
    parts_.push_back(inputs);
  }

  void read_codes(uint64_t first, uint64_t n, uint8_t* codes) const override {
    for (uint64_t i = 0; i < n; ++i) {
      const std::byte* row = weight_.data.data() + (first + i) / 2 * n_cols_;
      const unsigned shift = (first + i) % 2 * 4;
      for (uint64_t k = 0; k < n_cols_; ++k)
        codes[i * n_cols_ + k] = static_cast<uint8_t>(std::to_integer<unsigned>(row[k]) >> shift & 15);
    }
  }

  void read_scales(uint64_t first, uint64_t n, float* scales, float* zeros) const override {
    for (uint64_t i = 0; i < n; ++i)
      for (uint64_t g = 0; g < n_groups_; ++g) {
        scales[i * n_groups_ + g] = number_at(*grid_.tensor, grid_.index(first + i, g));
        zeros[i * n_groups_ + g] = 0;
      }
  }

 private:
  const SafeTensor& weight_;
  ScaleGrid grid_;
};

std::unique_ptr<QuantMatrix> open(const LayoutInput& in, const std::string& module) {
  const SafeTensor* weight = in.find(module + ".weight");
  const SafeTensor* scale = in.find(module + ".weight_scale");
  if (!weight || !scale || weight->dtype != SafeDtype::kU8 || !is_float(*scale)) return nullptr;
  return std::make_unique<ModeloptInt4Matrix>(in, *weight, *scale, in.find(module + ".pre_quant_scale"));
}

}  // namespace

const Layout kModeloptInt4Layout = {"modelopt-int4",
                                    "modelopt",
                                    ".weight_scale",
                                    "weight U8 [N/2, K], weight_scale [N, K/g], pre_quant_scale [K]",
                                    "4-bit integers as NVIDIA's ModelOpt writes them",
                                    open,
                                    nullptr};

}  // namespace tsubu
