// bitsandbytes.
// 4 bits (NF4, FP4): blocks of `blocksize` weights run over the flattened matrix, the first of two in the HIGH nibble.
//   P.weight U8 [N·K/2, 1] (or the same bytes as another type)
//   P.weight.quant_map F32 [16]: the numbers of the codes
//   P.weight.absmax F32 [blocks], or U8 with double quantization, then
//     P.weight.nested_quant_map F32 [256], P.weight.nested_absmax F32 [blocks/256], nested_offset in the state
//   P.weight.quant_state.bitsandbytes__nf4 (or __fp4) U8: JSON with blocksize, dtype, shape, nested_…
//   w = quant_map[code] · absmax, absmax = nested_quant_map[u8] · nested_absmax + nested_offset; in `dtype`
// 8 bits: P.weight I8 [N, K], P.SCB F32 [N], P.weight_format U8: w = code · SCB · (1/127).
// Source: bitsandbytes (functional.py, QuantState.as_dict; backends/default/ops.py; nn/modules.py).
#include <cstring>
#include <numeric>

#include "base/error.h"
#include "checkpoint/layout.h"
#include "checkpoint/layout_list.h"
#include "codec/bitsandbytes.h"

namespace tsubu {
namespace {

constexpr const char* kStates[] = {".weight.quant_state.bitsandbytes__nf4", ".weight.quant_state.bitsandbytes__fp4"};

struct State {
  uint64_t blocksize = 0, n_rows = 0, n_cols = 0, nested_blocksize = 0;
  float nested_offset = 0;
  std::string type, dtype;
};

State read_state(const LayoutInput& in, const SafeTensor& tensor) {
  const std::string where = in.where(tensor) + ": tensor " + tensor.name;
  const std::string_view text(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
  const Json json = parse_json(text, where);
  const auto need = [&](bool good, const char* what) {
    if (!good) fail(ExitCode::kBadInput, "{}: expected {}, found {}", where, what, std::string(text.substr(0, 200)));
  };
  const auto uint = [&](const char* key) -> uint64_t {
    const auto it = json.find(key);
    return it != json.end() && it->is_number_unsigned() ? it->get<uint64_t>() : 0;
  };
  need(json.is_object(), "a JSON object");
  State s;
  s.blocksize = uint("blocksize");
  s.nested_blocksize = uint("nested_blocksize");
  need(s.blocksize >= 2 && s.blocksize <= 65536 && s.blocksize % 2 == 0, "an even blocksize");
  const auto shape = json.find("shape");
  need(shape != json.end() && shape->is_array() && shape->size() == 2 && (*shape)[0].is_number_unsigned() &&
           (*shape)[1].is_number_unsigned(),
       "\"shape\" of two numbers");
  s.n_rows = (*shape)[0].get<uint64_t>();
  s.n_cols = (*shape)[1].get<uint64_t>();
  need(s.n_rows > 0 && s.n_cols > 0 && s.n_rows < uint64_t{1} << 31 && s.n_cols < uint64_t{1} << 31, "a shape from 1 to 2^31");
  const auto offset = json.find("nested_offset");
  if (offset != json.end() && offset->is_number()) s.nested_offset = offset->get<float>();
  const auto text_of = [&](const char* key) {
    const auto it = json.find(key);
    return it != json.end() && it->is_string() ? it->get<std::string>() : std::string();
  };
  s.type = text_of("quant_type");
  s.dtype = text_of("dtype");
  return s;
}

class Bnb4Matrix : public QuantMatrix {
 public:
  Bnb4Matrix(const LayoutInput& in, const std::string& module, const SafeTensor& state) {
    const State s = read_state(in, state);
    const std::string weight_name = module + ".weight";
    const auto part = [&](const char* suffix) -> const SafeTensor& {
      const SafeTensor* tensor = in.find(weight_name + suffix);
      if (!tensor)
        fail(ExitCode::kBadInput, "{}: tensor {}{} is missing, which {} needs", in.where(state), weight_name, suffix,
             state.name);
      parts_.push_back(tensor);
      return *tensor;
    };
    const uint64_t n = s.n_rows * s.n_cols, n_blocks = (n + s.blocksize - 1) / s.blocksize;
    weight_ = &part("");
    if (weight_->data.size() < (n + 1) / 2) bad_tensor(in, *weight_, fmt::format("{} bytes for {} x {}", (n + 1) / 2, s.n_rows, s.n_cols));
    absmax_ = &part(".absmax");
    const SafeTensor& map = part(".quant_map");
    if (map.dtype != SafeDtype::kF32 || map.data.size() != 64) bad_tensor(in, map, "F32 [16]");
    blocksize_ = s.blocksize;
    if (absmax_->dtype == SafeDtype::kU8) {
      nested_absmax_ = &part(".nested_absmax");
      nested_map_ = &part(".nested_quant_map");
      nested_blocksize_ = s.nested_blocksize;
      nested_offset_ = s.nested_offset;
      if (nested_map_->dtype != SafeDtype::kF32 || nested_map_->data.size() != 1024) bad_tensor(in, *nested_map_, "F32 [256]");
      if (nested_blocksize_ == 0 || nested_absmax_->dtype != SafeDtype::kF32 ||
          nested_absmax_->data.size() / 4 < (n_blocks + nested_blocksize_ - 1) / nested_blocksize_)
        bad_tensor(in, *nested_absmax_, fmt::format("F32, one for each nested_blocksize of {} scales", n_blocks));
    } else if (absmax_->dtype != SafeDtype::kF32) {
      bad_tensor(in, *absmax_, "F32 or U8");
    }
    if (absmax_->data.size() / (nested_map_ ? 1 : 4) < n_blocks) bad_tensor(in, *absmax_, fmt::format("{} blocks", n_blocks));
    // A block that straddles rows is as many groups as it takes for none to do so.
    set_shape(s.n_rows, s.n_cols, std::gcd(s.blocksize, s.n_cols));
    code_bits_ = 4;
    for (uint64_t c = 0; c < 16; ++c) levels_[c] = number_at(map, c);
    value_type_ = s.dtype == "float16" ? &type_named("F16") : s.dtype == "bfloat16" ? &type_named("BF16") : &type_named("F32");
    kind_ = fmt::format("{} block={}{}", s.type.empty() ? "nf4" : s.type, blocksize_, nested_map_ ? " double" : "");
    parts_.push_back(&state);
  }

  void read_codes(uint64_t first, uint64_t n, uint8_t* codes) const override {
    const uint64_t begin = first * n_cols_;
    for (uint64_t i = 0; i < n * n_cols_; ++i) {
      const auto byte = std::to_integer<uint8_t>(weight_->data[(begin + i) / 2]);
      codes[i] = (begin + i) % 2 == 0 ? byte >> 4 : byte & 15;
    }
  }

  void read_scales(uint64_t first, uint64_t n, float* scales, float* zeros) const override {
    for (uint64_t i = 0; i < n * n_groups_; ++i) {
      const uint64_t block = (first * n_groups_ + i) * group_columns_ / blocksize_;
      float scale = 0;
      if (nested_map_) {
        const auto code = std::to_integer<uint64_t>(absmax_->data[block]);
        scale = number_at(*nested_map_, code) * number_at(*nested_absmax_, block / nested_blocksize_) + nested_offset_;
      } else {
        scale = number_at(*absmax_, block);
      }
      scales[i] = scale;
      zeros[i] = 0;
    }
  }

 private:
  const SafeTensor *weight_ = nullptr, *absmax_ = nullptr, *nested_absmax_ = nullptr, *nested_map_ = nullptr;
  uint64_t blocksize_ = 64, nested_blocksize_ = 256;
  float nested_offset_ = 0;
};

class Bnb8Matrix : public QuantMatrix {
 public:
  Bnb8Matrix(const LayoutInput& in, const SafeTensor& weight, const SafeTensor& absmax, const SafeTensor* format)
      : weight_(weight), absmax_(absmax) {
    const Dims w = dims_of(in, weight);
    if (absmax.dtype != SafeDtype::kF32 || absmax.data.size() / 4 != w.rows) bad_tensor(in, absmax, fmt::format("F32 [{}]", w.rows));
    if (format && !format->data.empty() && format->data[0] != std::byte{0})
      fail(ExitCode::kUnsupported, "{}: tensor {}: only row-major weights (format 0) are supported", in.where(*format), format->name);
    set_shape(w.rows, w.cols, w.cols);
    levels_ = signed_levels(8);
    post_scale_ = 1.0f / 127.0f;
    value_type_ = &value_type_of(in, weight);
    kind_ = "int8 channel";
    parts_ = {&weight, &absmax};
    if (format) parts_.push_back(format);
  }

  void read_codes(uint64_t first, uint64_t n, uint8_t* codes) const override {
    std::memcpy(codes, weight_.data.data() + first * n_cols_, n * n_cols_);
  }

  void read_scales(uint64_t first, uint64_t n, float* scales, float* zeros) const override {
    for (uint64_t i = 0; i < n; ++i) {
      scales[i] = number_at(absmax_, first + i);
      zeros[i] = 0;
    }
  }

 private:
  const SafeTensor &weight_, &absmax_;
};

std::unique_ptr<QuantMatrix> open_4bit(const LayoutInput& in, const std::string& module) {
  for (const char* suffix : kStates)
    if (const SafeTensor* state = in.find(module + suffix)) return std::make_unique<Bnb4Matrix>(in, module, *state);
  return nullptr;
}

std::unique_ptr<QuantMatrix> open_8bit(const LayoutInput& in, const std::string& module) {
  const SafeTensor* weight = in.find(module + ".weight");
  const SafeTensor* absmax = in.find(module + ".SCB");
  if (!weight || !absmax || weight->dtype != SafeDtype::kI8) return nullptr;
  return std::make_unique<Bnb8Matrix>(in, *weight, *absmax, in.find(module + ".weight_format"));
}

std::vector<StoredPart> store_4bit(const LayoutMatrix& w) {
  // The scales lie by rows and so do the blocks, where rows are whole blocks.
  if (w.n_cols % w.group_columns != 0 || w.n_cols % 2 != 0)
    fail(ExitCode::kUnsupported, "{} inputs are no multiple of the block of {}", w.n_cols, w.group_columns);
  std::vector<uint8_t> bytes(w.codes.size() / 2);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(w.codes[2 * i] << 4 | w.codes[2 * i + 1]);
  const bool nf4 = w.kind == "nf4";
  std::vector<float> map;
  for (int c = 0; c < 16; ++c) map.push_back(nf4 ? kNf4Map[c] : c < 8 ? kFp4Magnitudes[c] : -kFp4Magnitudes[c - 8]);
  std::vector<StoredPart> parts = {part_of(".weight", SafeDtype::kU8, {bytes.size(), 1}, bytes),
                                   float_part(".weight.quant_map", SafeDtype::kF32, {16}, map)};
  std::string state = fmt::format(R"({{"quant_type": "{}", "blocksize": {}, "dtype": "{}", "shape": [{}, {}])", w.kind,
                                  w.group_columns, w.model_dtype, w.n_rows, w.n_cols);
  if (w.nested) {
    const DoubleQuantized& d = *w.nested;
    parts.push_back(part_of(".weight.absmax", SafeDtype::kU8, {d.codes.size()}, d.codes));
    parts.push_back(float_part(".weight.nested_absmax", SafeDtype::kF32, {d.absmax.size()}, d.absmax));
    parts.push_back(float_part(".weight.nested_quant_map", SafeDtype::kF32, {256}, dynamic_map()));
    state += fmt::format(R"(, "nested_blocksize": {}, "nested_dtype": "float32", "nested_offset": {})", kNestedBlock,
                         Json(static_cast<double>(d.offset)).dump());
  } else {
    parts.push_back(float_part(".weight.absmax", SafeDtype::kF32, {w.scales.size()}, w.scales));
  }
  state += '}';
  parts.push_back(part_of(std::string(kStates[nf4 ? 0 : 1]), SafeDtype::kU8, {state.size()},
                          std::vector<char>(state.begin(), state.end())));
  return parts;
}

std::vector<StoredPart> store_8bit(const LayoutMatrix& w) {
  std::vector<float> absmax;
  for (float s : w.scales) absmax.push_back(127 * s);
  return {part_of(".weight", SafeDtype::kI8, {w.n_rows, w.n_cols}, w.codes),
          float_part(".SCB", SafeDtype::kF32, {w.n_rows}, absmax),
          part_of(".weight_format", SafeDtype::kU8, {}, std::vector<uint8_t>{0})};
}

}  // namespace

const Layout kBnb4Layout = {"bitsandbytes-4bit",
                            "bitsandbytes",
                            ".weight.absmax",
                            "weight U8 [N·K/2, 1], weight.absmax, weight.quant_map, weight.quant_state.bitsandbytes__nf4",
                            "NF4 and FP4, with and without double quantization",
                            open_4bit,
                            store_4bit};
const Layout kBnb8Layout = {"bitsandbytes-int8",
                            "bitsandbytes",
                            ".SCB",
                            "weight I8 [N, K], SCB F32 [N]",
                            "8-bit integers by rows (LLM.int8)",
                            open_8bit,
                            store_8bit};

}  // namespace tsubu
