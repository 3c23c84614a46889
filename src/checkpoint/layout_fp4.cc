// 4-bit floats (E2M1), two to a byte, element 2i in the low nibble:
//   compressed-tensors nvfp4-pack-quantized: P.weight_packed U8 [N, K/2], P.weight_scale F8_E4M3 [N, K/16],
//     P.weight_global_scale F32 [1], which divides
//   ModelOpt NVFP4: the same as P.weight, P.weight_scale, and P.weight_scale_2 F32, which multiplies
//   compressed-tensors mxfp4-pack-quantized: P.weight_packed U8 [N, K/2], P.weight_scale U8 [N, K/32], powers of two
//     with bias 127
//   gpt-oss MXFP4: P_blocks U8 [E, R, K/32, 16], P_scales U8 [E, R, K/32]; the E matrices of R rows are one of E·R here
// Sources: vllm-project/compressed-tensors (compressors/nvfp4, mxfp4), NVIDIA Model-Optimizer (qtensor/nvfp4_tensor.py),
// openai/gpt-oss (gpt_oss/torch/weights.py), OCP Microscaling Formats 1.0.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "checkpoint/layout.h"
#include "checkpoint/layout_list.h"
#include "codec/number_format.h"
#include "codec/small_floats.h"

namespace tsubu {
namespace {

enum class GlobalScale { kNone, kDivides, kMultiplies };

class Fp4Matrix : public QuantMatrix {
 public:
  Fp4Matrix(const LayoutInput& in, uint64_t n_rows, uint64_t n_cols, const SafeTensor& packed, const SafeTensor& scale,
            const SafeTensor* global, GlobalScale use)
      : packed_(packed), scale_(scale), use_(use) {
    set_shape(n_rows, n_cols, use == GlobalScale::kNone ? 32 : 16);
    if (global) {
      if (global->dtype != SafeDtype::kF32 || global->data.size() != 4) bad_tensor(in, *global, "one F32");
      global_ = number_at(*global, 0);
    }
    code_bits_ = 4;
    levels_ = e2m1_levels();
    // compressed-tensors unpacks into bfloat16, whatever the model's type.
    value_type_ = in.config.method == "compressed-tensors" ? &type_named("BF16") : &value_type_of(in, scale);
    kind_ = use == GlobalScale::kNone ? "mxfp4" : "nvfp4";
    parts_ = {&packed, &scale};
    if (global) parts_.push_back(global);
  }

  void read_codes(uint64_t first, uint64_t n, uint8_t* codes) const override {
    const std::byte* data = packed_.data.data() + first * n_cols_ / 2;
    for (uint64_t i = 0; i < n * n_cols_; i += 2) {
      const auto byte = std::to_integer<uint8_t>(data[i / 2]);
      codes[i] = byte & 15;
      codes[i + 1] = byte >> 4;
    }
  }

  void read_scales(uint64_t first, uint64_t n, float* scales, float* zeros) const override {
    for (uint64_t i = 0; i < n * n_groups_; ++i) {
      const float stored = number_at(scale_, first * n_groups_ + i);
      scales[i] = use_ == GlobalScale::kNone        ? e8m0_to_f32(static_cast<uint32_t>(stored))
                  : use_ == GlobalScale::kMultiplies ? stored * global_
                                                     : stored / global_;
      zeros[i] = 0;
    }
  }

 private:
  const SafeTensor &packed_, &scale_;
  GlobalScale use_;
  float global_ = 1;
};

std::unique_ptr<QuantMatrix> make(const LayoutInput& in, const SafeTensor& packed, const SafeTensor& scale,
                                  const SafeTensor* global, GlobalScale use) {
  const Dims w = dims_of(in, packed), s = dims_of(in, scale);
  const uint64_t group = use == GlobalScale::kNone ? 32 : 16, k = 2 * w.cols;
  if (s.rows != w.rows || s.cols * group != k)
    bad_tensor(in, scale, fmt::format("[{}, {}], one for each {} of {} inputs", w.rows, (k + group - 1) / group, group, k));
  return std::make_unique<Fp4Matrix>(in, w.rows, k, packed, scale, global, use);
}

std::unique_ptr<QuantMatrix> open_nvfp4(const LayoutInput& in, const std::string& module) {
  const SafeTensor* packed = in.find(module + ".weight_packed");
  const SafeTensor* scale = in.find(module + ".weight_scale");
  const SafeTensor* global = in.find(module + ".weight_global_scale");
  if (!packed || !scale || !global || packed->dtype != SafeDtype::kU8) return nullptr;
  if (scale->dtype != SafeDtype::kF8E4M3) bad_tensor(in, *scale, "F8_E4M3");
  return make(in, *packed, *scale, global, GlobalScale::kDivides);
}

std::unique_ptr<QuantMatrix> open_modelopt(const LayoutInput& in, const std::string& module) {
  const SafeTensor* packed = in.find(module + ".weight");
  const SafeTensor* scale = in.find(module + ".weight_scale");
  const SafeTensor* global = in.find(module + ".weight_scale_2");
  if (!packed || !scale || !global || packed->dtype != SafeDtype::kU8) return nullptr;
  if (scale->dtype != SafeDtype::kF8E4M3) bad_tensor(in, *scale, "F8_E4M3");
  return make(in, *packed, *scale, global, GlobalScale::kMultiplies);
}

std::unique_ptr<QuantMatrix> open_mxfp4(const LayoutInput& in, const std::string& module) {
  const SafeTensor* packed = in.find(module + ".weight_packed");
  const SafeTensor* scale = in.find(module + ".weight_scale");
  if (!packed || !scale || packed->dtype != SafeDtype::kU8 || scale->dtype != SafeDtype::kU8) return nullptr;
  return make(in, *packed, *scale, nullptr, GlobalScale::kNone);
}

std::unique_ptr<QuantMatrix> open_gpt_oss(const LayoutInput& in, const std::string& module) {
  const SafeTensor* blocks = in.find(module + "_blocks");
  const SafeTensor* scales = in.find(module + "_scales");
  if (!blocks || !scales || blocks->dtype != SafeDtype::kU8 || scales->dtype != SafeDtype::kU8) return nullptr;
  std::vector<uint64_t> expected = scales->shape;
  expected.push_back(16);
  if (scales->shape.size() < 2 || blocks->shape != expected || blocks->data.empty())
    bad_tensor(in, *blocks, fmt::format("the shape of {} and 16 bytes for each scale", scales->name));
  const uint64_t n_cols = 32 * scales->shape.back();
  return std::make_unique<Fp4Matrix>(in, scales->data.size() / scales->shape.back(), n_cols, *blocks, *scales, nullptr,
                                     GlobalScale::kNone);
}

StoredPart nibbles_of(const LayoutMatrix& w) {
  std::vector<uint8_t> bytes(w.codes.size() / 2);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(w.codes[2 * i] | w.codes[2 * i + 1] << 4);
  return part_of(".weight_packed", SafeDtype::kU8, {w.n_rows, w.n_cols / 2}, bytes);
}

void check_groups(const LayoutMatrix& w, uint64_t group) {
  if (w.n_cols % group != 0)
    fail(ExitCode::kUnsupported, "{} inputs are no multiple of the format's group of {}", w.n_cols, group);
}

std::vector<StoredPart> store_nvfp4(const LayoutMatrix& w) {
  check_groups(w, 16);
  const NumberFormat& e4m3 = *find_number_format("fp8_e4m3");
  std::vector<uint8_t> scales;
  for (float s : w.scales) scales.push_back(e4m3.encode(w.tensor_scale > 0 ? s / w.tensor_scale : 0.0f));
  const std::vector<float> global = {w.tensor_scale > 0 ? 1 / w.tensor_scale : 1.0f};
  return {nibbles_of(w), part_of(".weight_scale", SafeDtype::kF8E4M3, {w.n_rows, w.n_cols / 16}, scales),
          float_part(".weight_global_scale", SafeDtype::kF32, {1}, global)};
}

std::vector<StoredPart> store_mxfp4(const LayoutMatrix& w) {
  check_groups(w, 32);
  std::vector<uint8_t> scales;
  for (float s : w.scales) scales.push_back(static_cast<uint8_t>(std::clamp(std::ilogb(s) + 127, 0, 254)));
  return {nibbles_of(w), part_of(".weight_scale", SafeDtype::kU8, {w.n_rows, w.n_cols / 32}, scales)};
}

// The rows of one expert; who writes puts the experts of a tensor together.
std::vector<StoredPart> store_gpt_oss(const LayoutMatrix& w) {
  std::vector<StoredPart> parts = store_mxfp4(w);
  parts[0].suffix = "_blocks";
  parts[0].shape = {w.n_rows, w.n_cols / 32, 16};
  parts[1].suffix = "_scales";
  return parts;
}

}  // namespace

const Layout kNvfp4Layout = {"nvfp4-pack-quantized",
                             "compressed-tensors",
                             ".weight_packed",
                             "weight_packed U8 [N, K/2], weight_scale F8_E4M3 [N, K/16], weight_global_scale F32 [1]",
                             "4-bit floats in groups of 16 under a scale for the tensor",
                             open_nvfp4,
                             store_nvfp4};
const Layout kModeloptNvfp4Layout = {"modelopt-nvfp4",
                                     "modelopt",
                                     ".weight_scale_2",
                                     "weight U8 [N, K/2], weight_scale F8_E4M3 [N, K/16], weight_scale_2 F32",
                                     "NVFP4 as NVIDIA's ModelOpt writes it",
                                     open_modelopt,
                                     nullptr};
const Layout kMxfp4Layout = {"mxfp4-pack-quantized",
                             "compressed-tensors",
                             ".weight_packed",
                             "weight_packed U8 [N, K/2], weight_scale U8 [N, K/32]",
                             "4-bit floats in groups of 32 under powers of two",
                             open_mxfp4,
                             store_mxfp4};
const Layout kGptOssLayout = {"mxfp4",
                              "mxfp4",
                              "_blocks",
                              "P_blocks U8 [E, N, K/32, 16], P_scales U8 [E, N, K/32]",
                              "MXFP4 experts as gpt-oss publishes them",
                              open_gpt_oss,
                              store_gpt_oss};

}  // namespace tsubu
