// compressed-tensors pack-quantized: integers of 1 to 8 bits with an offset, packed along the inputs.
//   P.weight_packed I32 [N, words]   field = code + 2^(b-1); words = ceil(K·b/32), a stream of bits (0.18 and later), or
//                                    ceil(K / floor(32/b)), whole fields in each word (before; differs for 3, 5, 6, 7)
//   P.weight_scale [N, K/g], [N, 1] or [1]     P.weight_shape I64 [2] = N, K
//   P.weight_zero_point I32 [ceil(N·b/32), G]  with the same offset, packed along the outputs; symmetric: none
//   P.weight_g_idx I32 [K]                     group of each input, with activation order
//   w = scale · (code - zero), in the scales' type
// Source: vllm-project/compressed-tensors (compressors/pack_quantized).
#include "base/error.h"
#include "checkpoint/layout.h"
#include "checkpoint/layout_list.h"
#include "checkpoint/packed_bits.h"
#include "checkpoint/quantization_config.h"

namespace tsubu {
namespace {

struct Parts {
  const SafeTensor *packed, *scale, *shape, *zero, *g_idx;
};

uint64_t dense_words(uint64_t k, uint64_t bits) { return (k * bits + 31) / 32; }
uint64_t whole_words(uint64_t k, uint64_t bits) { return (k + 32 / bits - 1) / (32 / bits); }

class PackQuantizedMatrix : public QuantMatrix {
 public:
  PackQuantizedMatrix(const LayoutInput& in, const std::string& module, const Parts& p)
      : packed_(*p.packed), zero_(p.zero) {
    const Dims w = dims_of(in, packed_);
    if (p.shape->data.size() < 2 * 4 || p.shape->shape != std::vector<uint64_t>{2})
      bad_tensor(in, *p.shape, "two integers");
    const bool wide = p.shape->dtype == SafeDtype::kI64;
    const uint64_t n = word_at(*p.shape, 0), k = word_at(*p.shape, wide ? 2 : 1);
    if (n != w.rows || k == 0) bad_tensor(in, *p.shape, fmt::format("{} outputs, as {} has", w.rows, packed_.name));
    const CtWeights said = compressed_tensors_weights(in.config, module);
    choose_bits(in, k, w.cols, said.num_bits);
    grid_ = scale_grid_of(in, *p.scale, n, k, {1, said.group_size});
    if (grid_.row_step != 1) bad_tensor(in, *p.scale, fmt::format("{} rows of scales, or one", n));
    set_shape(n, k, grid_.group_columns);
    if (p.g_idx) read_groups(in, *p.g_idx);
    if (zero_) {
      const Dims z = dims_of(in, *zero_);
      if (zero_->dtype != SafeDtype::kI32 || z.cols != grid_.cols || (z.rows != dense_words(n, bits_) && z.rows != whole_words(n, bits_)))
        bad_tensor(in, *zero_, fmt::format("I32 [{}, {}]", dense_words(n, bits_), grid_.cols));
      // By their number where it tells the packings apart, else as the weights are.
      zeros_dense_ = z.rows == dense_words(n, bits_) && (dense_ || z.rows != whole_words(n, bits_));
    }
    code_bits_ = static_cast<int>(bits_);
    levels_ = offset_levels(code_bits_);
    has_zeros_ = zero_ != nullptr;
    value_type_ = is_float(*p.scale) ? &type_of_floats(*p.scale) : &type_named("F32");
    kind_ = fmt::format("int{} {}{}{}", bits_, grid_.kind, zero_ ? " asym" : "", group_of_column_.empty() ? "" : " act-order");
    parts_ = {p.packed, p.scale, p.shape};
    if (p.zero) parts_.push_back(p.zero);
    if (p.g_idx) parts_.push_back(p.g_idx);
  }

  void read_codes(uint64_t first, uint64_t n, uint8_t* codes) const override {
    const uint64_t words = packed_.shape[1];
    std::vector<uint32_t> row(words + 1);
    for (uint64_t i = 0; i < n; ++i) {
      for (uint64_t j = 0; j < words; ++j) row[j] = word_at(packed_, (first + i) * words + j);
      uint8_t* out = codes + i * n_cols_;
      if (dense_) {
        unpack_bits(row, bits_, n_cols_, out);
        continue;
      }
      const uint64_t per_word = 32 / bits_;
      for (uint64_t k = 0; k < n_cols_; ++k)
        out[k] = static_cast<uint8_t>(row[k / per_word] >> (k % per_word * bits_) & ((1u << bits_) - 1));
    }
  }

  void read_scales(uint64_t first, uint64_t n, float* scales, float* zeros) const override {
    const int half = 1 << (bits_ - 1);
    for (uint64_t i = 0; i < n; ++i)
      for (uint64_t g = 0; g < n_groups_; ++g) {
        scales[i * n_groups_ + g] = number_at(*grid_.tensor, grid_.index(first + i, g));
        zeros[i * n_groups_ + g] = zero_ ? static_cast<float>(static_cast<int>(zero_field(first + i, g)) - half) : 0.0f;
      }
  }

 private:
  void choose_bits(const LayoutInput& in, uint64_t k, uint64_t words, uint64_t said) {
    const auto fits = [&](uint64_t bits) { return dense_words(k, bits) == words || whole_words(k, bits) == words; };
    bits_ = said >= 1 && said <= 8 && fits(said) ? said : 0;
    for (uint64_t bits : {4, 8, 2, 3, 5, 6, 7, 1})
      if (bits_ == 0 && fits(bits)) bits_ = bits;
    if (bits_ == 0) bad_tensor(in, packed_, fmt::format("words for {} codes of 1 to 8 bits in each row", k));
    dense_ = dense_words(k, bits_) == words;
  }

  void read_groups(const LayoutInput& in, const SafeTensor& g_idx) {
    if (g_idx.dtype != SafeDtype::kI32 || g_idx.shape != std::vector<uint64_t>{n_cols_})
      bad_tensor(in, g_idx, fmt::format("I32 [{}]", n_cols_));
    bool runs = true, unset = true;
    std::vector<uint32_t> groups(n_cols_);
    for (uint64_t k = 0; k < n_cols_; ++k) {
      groups[k] = word_at(g_idx, k);
      unset = unset && groups[k] == 0xffffffffu;  // -1: groups are runs
      runs = runs && groups[k] == k / group_columns_;
    }
    if (runs || unset) return;
    for (uint32_t g : groups)
      if (g >= n_groups_) bad_tensor(in, g_idx, fmt::format("groups below {}, not {}", n_groups_, g));
    group_of_column_ = std::move(groups);
  }

  // Column g of the zeros, packed down the rows.
  uint32_t zero_field(uint64_t n, uint64_t g) const {
    const uint64_t cols = zero_->shape[1], column = cols == 1 ? 0 : g;
    const uint32_t mask = (1u << bits_) - 1;
    if (!zeros_dense_) {
      const uint64_t per_word = 32 / bits_;
      return word_at(*zero_, n / per_word * cols + column) >> (n % per_word * bits_) & mask;
    }
    const uint64_t at = n * bits_, word = at / 32, shift = at % 32;
    uint64_t both = word_at(*zero_, word * cols + column);
    if (shift + bits_ > 32) both |= static_cast<uint64_t>(word_at(*zero_, (word + 1) * cols + column)) << 32;
    return static_cast<uint32_t>(both >> shift) & mask;
  }

  const SafeTensor& packed_;
  const SafeTensor* zero_;
  ScaleGrid grid_;
  uint64_t bits_ = 4;
  bool dense_ = true, zeros_dense_ = true;
};

std::unique_ptr<QuantMatrix> open(const LayoutInput& in, const std::string& module) {
  const Parts p = {in.find(module + ".weight_packed"), in.find(module + ".weight_scale"),
                   in.find(module + ".weight_shape"), in.find(module + ".weight_zero_point"),
                   in.find(module + ".weight_g_idx")};
  if (!p.packed || !p.scale || !p.shape || p.packed->dtype != SafeDtype::kI32) return nullptr;
  if (p.shape->dtype != SafeDtype::kI64 && p.shape->dtype != SafeDtype::kI32) bad_tensor(in, *p.shape, "I64 [2]");
  return std::make_unique<PackQuantizedMatrix>(in, module, p);
}

std::vector<StoredPart> store(const LayoutMatrix& w) {
  const auto bits = static_cast<uint64_t>(w.code_bits);
  const int half = 1 << (bits - 1);
  const uint64_t words = dense_words(w.n_cols, bits), groups = w.n_groups();
  std::vector<uint32_t> packed;
  packed.reserve(w.n_rows * words);
  std::vector<uint8_t> row(w.n_cols);
  for (uint64_t n = 0; n < w.n_rows; ++n) {
    for (uint64_t k = 0; k < w.n_cols; ++k) row[k] = static_cast<uint8_t>(static_cast<int8_t>(w.codes[n * w.n_cols + k]) + half);
    const std::vector<uint32_t> one = pack_bits(row.data(), w.n_cols, bits);
    packed.insert(packed.end(), one.begin(), one.end());
  }
  std::vector<StoredPart> parts = {
      part_of(".weight_packed", SafeDtype::kI32, {w.n_rows, words}, packed),
      float_part(".weight_scale", w.scale_type, {w.n_rows, groups}, w.scales),
      part_of(".weight_shape", SafeDtype::kI64, {2},
              std::vector<int64_t>{static_cast<int64_t>(w.n_rows), static_cast<int64_t>(w.n_cols)})};
  if (w.zeros.empty()) return parts;
  const uint64_t zero_words = dense_words(w.n_rows, bits);
  std::vector<uint32_t> zeros(zero_words * groups);
  std::vector<uint8_t> column(w.n_rows);
  for (uint64_t g = 0; g < groups; ++g) {
    for (uint64_t n = 0; n < w.n_rows; ++n) column[n] = static_cast<uint8_t>(w.zeros[n * groups + g] + half);
    const std::vector<uint32_t> one = pack_bits(column.data(), w.n_rows, bits);
    for (uint64_t i = 0; i < zero_words; ++i) zeros[i * groups + g] = one[i];
  }
  parts.push_back(part_of(".weight_zero_point", SafeDtype::kI32, {zero_words, groups}, zeros));
  return parts;
}

}  // namespace

const Layout kPackQuantizedLayout = {
    "pack-quantized",
    "compressed-tensors",
    ".weight_packed",
    "weight_packed I32 [N, K·b/32], weight_scale [N, G], weight_shape I64 [2], weight_zero_point I32 [N·b/32, G]",
    "integers of 1 to 8 bits for weights alone, both packings",
    open,
    store};

}  // namespace tsubu
