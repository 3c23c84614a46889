// compressed-tensors int-quantized: P.weight I8 [N, K], P.weight_scale [N, 1] (or [1], [N, G]), P.weight_zero_point I8 of
// the scales' shape where it is asymmetric; w = scale · (code - zero) in the scales' type.
// Source: vllm-project/compressed-tensors (compressors/naive_quantized).
#include <cstring>

#include "base/error.h"
#include "checkpoint/layout.h"
#include "checkpoint/layout_list.h"
#include "checkpoint/quantization_config.h"

namespace tsubu {
namespace {

class IntQuantizedMatrix : public QuantMatrix {
 public:
  IntQuantizedMatrix(const LayoutInput& in, const std::string& module, const SafeTensor& weight,
                     const SafeTensor& scale, const SafeTensor* zero)
      : weight_(weight), zero_(zero) {
    const Dims w = dims_of(in, weight);
    const CtWeights said = compressed_tensors_weights(in.config, module);
    grid_ = scale_grid_of(in, scale, w.rows, w.cols, {said.block_rows, said.group_size});
    set_shape(w.rows, w.cols, grid_.group_columns);
    if (zero && (zero->shape != scale.shape || zero->dtype != SafeDtype::kI8)) bad_tensor(in, *zero, "I8 of weight_scale's shape");
    levels_ = signed_levels(8);
    has_zeros_ = zero != nullptr;
    value_type_ = is_float(scale) ? &type_of_floats(scale) : &type_named("F32");
    kind_ = fmt::format("int8 {}{}", grid_.kind, zero ? " asym" : "");
    parts_ = {&weight, &scale};
    if (zero) parts_.push_back(zero);
  }

  void read_codes(uint64_t first, uint64_t n, uint8_t* codes) const override {
    std::memcpy(codes, weight_.data.data() + first * n_cols_, n * n_cols_);
  }

  void read_scales(uint64_t first, uint64_t n, float* scales, float* zeros) const override {
    for (uint64_t i = 0; i < n; ++i)
      for (uint64_t g = 0; g < n_groups_; ++g) {
        const uint64_t at = grid_.index(first + i, g);
        scales[i * n_groups_ + g] = number_at(*grid_.tensor, at);
        zeros[i * n_groups_ + g] = zero_ ? number_at(*zero_, at) : 0.0f;
      }
  }

 private:
  const SafeTensor& weight_;
  const SafeTensor* zero_;
  ScaleGrid grid_;
};

std::unique_ptr<QuantMatrix> open(const LayoutInput& in, const std::string& module) {
  const SafeTensor* weight = in.find(module + ".weight");
  const SafeTensor* scale = in.find(module + ".weight_scale");
  if (!weight || !scale || weight->dtype != SafeDtype::kI8) return nullptr;
  return std::make_unique<IntQuantizedMatrix>(in, module, *weight, *scale, in.find(module + ".weight_zero_point"));
}

std::vector<StoredPart> store(const LayoutMatrix& w) {
  const std::vector<uint64_t> shape = {w.n_rows, w.n_groups()};
  std::vector<StoredPart> parts = {part_of(".weight", SafeDtype::kI8, {w.n_rows, w.n_cols}, w.codes),
                                   float_part(".weight_scale", w.scale_type, shape, w.scales)};
  if (!w.zeros.empty()) parts.push_back(part_of(".weight_zero_point", SafeDtype::kI8, shape, w.zeros));
  return parts;
}

}  // namespace

const Layout kIntQuantizedLayout = {"int-quantized",
                                    "compressed-tensors",
                                    ".weight_scale",
                                    "weight I8 [N, K], weight_scale [N, 1], weight_zero_point I8",
                                    "8-bit integers for weights and activations (W8A8)",
                                    open,
                                    store};

}  // namespace tsubu
