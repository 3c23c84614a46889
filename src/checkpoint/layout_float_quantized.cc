// 8-bit floats with a scale beside them:
//   compressed-tensors float-quantized and ModelOpt FP8: P.weight F8_E4M3 [N, K], P.weight_scale [] or [1], [N, 1], or
//     blocks [ceil(N/128), ceil(K/128)]
//   compressed-tensors mxfp8-quantized: P.weight_scale U8 [N, K/32], powers of two with bias 127
//   DeepSeek-V3 block FP8: P.weight_scale_inv F32 [ceil(N/128), ceil(K/128)], which multiplies despite its name
// w = scale · E4M3(code). Sources: vllm-project/compressed-tensors (naive_quantized), NVIDIA Model-Optimizer
// (export/quant_utils.py), DeepSeek-V3 README_WEIGHTS.md and inference/fp8_cast_bf16.py.
#include <cstring>

#include "base/error.h"
#include "checkpoint/layout.h"
#include "checkpoint/layout_list.h"
#include "checkpoint/quantization_config.h"
#include "codec/small_floats.h"

namespace tsubu {
namespace {

class Fp8Matrix : public QuantMatrix {
 public:
  Fp8Matrix(const LayoutInput& in, const SafeTensor& weight, const SafeTensor& scale, Dims block)
      : weight_(weight), powers_(scale.dtype == SafeDtype::kU8) {
    const Dims w = dims_of(in, weight);
    grid_ = scale_grid_of(in, scale, w.rows, w.cols, block);
    set_shape(w.rows, w.cols, grid_.group_columns);
    levels_ = e4m3_levels();
    // compressed-tensors computes in the type of the scales, and its MXFP8 in bfloat16.
    const bool ct = in.config.method == "compressed-tensors";
    value_type_ = ct ? powers_ ? &type_named("BF16") : &type_of_floats(scale) : &value_type_of(in, scale);
    kind_ = fmt::format("{} {}", powers_ ? "mxfp8" : "fp8_e4m3", grid_.kind);
    parts_ = {&weight, &scale};
  }

  void read_codes(uint64_t first, uint64_t n, uint8_t* codes) const override {
    std::memcpy(codes, weight_.data.data() + first * n_cols_, n * n_cols_);
  }

  void read_scales(uint64_t first, uint64_t n, float* scales, float* zeros) const override {
    for (uint64_t i = 0; i < n; ++i)
      for (uint64_t g = 0; g < n_groups_; ++g) {
        const float scale = number_at(*grid_.tensor, grid_.index(first + i, g));
        scales[i * n_groups_ + g] = powers_ ? e8m0_to_f32(static_cast<uint32_t>(scale)) : scale;
        zeros[i * n_groups_ + g] = 0;
      }
  }

 private:
  const SafeTensor& weight_;
  bool powers_;
  ScaleGrid grid_;
};

const SafeTensor* fp8_weight(const LayoutInput& in, const std::string& module) {
  const SafeTensor* weight = in.find(module + ".weight");
  return weight && weight->dtype == SafeDtype::kF8E4M3 ? weight : nullptr;
}

std::unique_ptr<QuantMatrix> open_scaled(const LayoutInput& in, const std::string& module, bool powers) {
  const SafeTensor* weight = fp8_weight(in, module);
  const SafeTensor* scale = in.find(module + ".weight_scale");
  if (!weight || !scale || (scale->dtype == SafeDtype::kU8) != powers) return nullptr;
  if (!powers && !is_float(*scale)) bad_tensor(in, *scale, "F32, F16 or BF16");
  const CtWeights said = compressed_tensors_weights(in.config, module);
  const Dims block = powers ? Dims{1, 32} : Dims{said.block_rows, said.group_size};
  return std::make_unique<Fp8Matrix>(in, *weight, *scale, block);
}

std::unique_ptr<QuantMatrix> open_float(const LayoutInput& in, const std::string& module) {
  return open_scaled(in, module, false);
}
std::unique_ptr<QuantMatrix> open_mxfp8(const LayoutInput& in, const std::string& module) {
  return open_scaled(in, module, true);
}

std::unique_ptr<QuantMatrix> open_block(const LayoutInput& in, const std::string& module) {
  const SafeTensor* weight = fp8_weight(in, module);
  const SafeTensor* scale = in.find(module + ".weight_scale_inv");
  if (!weight || !scale) return nullptr;
  if (!is_float(*scale)) bad_tensor(in, *scale, "F32");
  Dims block = {128, 128};
  const auto said = in.config.json.find("weight_block_size");
  if (said != in.config.json.end() && said->is_array() && said->size() == 2 && (*said)[0].is_number_unsigned() &&
      (*said)[1].is_number_unsigned())
    block = {(*said)[0].get<uint64_t>(), (*said)[1].get<uint64_t>()};
  return std::make_unique<Fp8Matrix>(in, *weight, *scale, block);
}

StoredPart codes_of(const LayoutMatrix& w) {
  return part_of(".weight", SafeDtype::kF8E4M3, {w.n_rows, w.n_cols}, w.codes);
}

std::vector<StoredPart> store_float(const LayoutMatrix& w) {
  std::vector<uint64_t> shape = {1};
  if (w.scales.size() > 1) shape = {w.scales.size() / w.n_groups(), w.n_groups()};
  return {codes_of(w), float_part(".weight_scale", w.scale_type, shape, w.scales)};
}

std::vector<StoredPart> store_block(const LayoutMatrix& w) {
  return {codes_of(w),
          float_part(".weight_scale_inv", SafeDtype::kF32, {w.scales.size() / w.n_groups(), w.n_groups()}, w.scales)};
}

}  // namespace

const Layout kFloatQuantizedLayout = {"float-quantized",
                                      "compressed-tensors",
                                      ".weight_scale",
                                      "weight F8_E4M3 [N, K], weight_scale [1], [N, 1] or blocks of 128 x 128",
                                      "8-bit floats; ModelOpt's FP8 too",
                                      open_float,
                                      store_float};
const Layout kMxfp8QuantizedLayout = {"mxfp8-quantized",
                                      "compressed-tensors",
                                      ".weight_scale",
                                      "weight F8_E4M3 [N, K], weight_scale U8 [N, K/32]",
                                      "8-bit floats under powers of two",
                                      open_mxfp8,
                                      nullptr};
const Layout kFp8BlockLayout = {"fp8-block",
                                "fp8",
                                ".weight_scale_inv",
                                "weight F8_E4M3 [N, K], weight_scale_inv F32 [N/128, K/128]",
                                "8-bit floats in blocks, as DeepSeek-V3 publishes",
                                open_block,
                                store_block};

}  // namespace tsubu
