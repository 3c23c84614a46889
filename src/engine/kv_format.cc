#include "engine/kv_format.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr uint32_t kF32Id = 0;
// The block of the cache types of other engines; blocks of 256 do not fit into a head.
constexpr uint32_t kLongestBlock = 64;

// 4 bits or 8: what is packed.
size_t code_bytes(const NumberFormat& format, size_t n) { return format.bits <= 4 ? (n + 1) / 2 : n; }

}  // namespace

KvFormat KvFormat::parse(std::string_view text) {
  KvFormat format;
  if (find_number_format(text.substr(0, text.find(':')))) {
    format.scheme_ = parse_scheme(text, SchemeUse::kCache);
    return format;
  }
  const TypeInfo& type = type_named(text);
  if (type.gguf_id == kF32Id) return format;
  if (!type.encode || type.block_len > kLongestBlock)
    fail(ExitCode::kUsage,
         "a cache in {}: expected a type that can be encoded in blocks of at most {}: F16, Q8_0, Q4_0, "
         "… or a scheme such as fp8_e4m3:token",
         type.name, kLongestBlock);
  format.type_ = &type;
  return format;
}

std::string KvFormat::name() const {
  if (scheme_) return scheme_->name();
  return type_ ? std::string(type_->name) : "F32";
}

size_t KvFormat::row_bytes(size_t head_dim) const {
  if (type_) {
    if (head_dim % type_->block_len != 0)
      fail(ExitCode::kUsage,
           "a cache in {}: heads of {} are no multiple of its block of {}: choose F16 or a scheme such "
           "as fp8_e4m3:token",
           type_->name, head_dim, type_->block_len);
    return head_dim / type_->block_len * type_->block_bytes;
  }
  if (scheme_) return scheme_->n_scales(1, head_dim) * sizeof(float) + code_bytes(*scheme_->format, head_dim);
  return head_dim * sizeof(float);
}

void KvFormat::encode(const float* x, std::byte* row, size_t head_dim) const {
  if (is_f32()) {
    std::memcpy(row, x, head_dim * sizeof(float));
    return;
  }
  // Few formats could say it.
  if (std::isnan(kernels().max_magnitude(x, head_dim)))
    fail(ExitCode::kNumeric, "a cache in {}: keys or values that are not finite: the model is damaged", name());
  if (type_) return kernels().encode[type_->index](x, nullptr, row, head_dim);
  const NumberFormat& format = *scheme_->format;
  const size_t group = scheme_->columns_per_scale(head_dim), n_scales = scheme_->n_scales(1, head_dim);
  auto* codes = reinterpret_cast<uint8_t*>(row + n_scales * sizeof(float));
  if (format.bits <= 4) std::fill_n(codes, code_bytes(format, head_dim), uint8_t{0});
  for (size_t first = 0, g = 0; first < head_dim; first += group, ++g) {
    const size_t n = std::min(group, head_dim - first);
    const float scale = scheme_->scale_of(kernels().max_magnitude(x + first, n));
    if (n_scales > 0) std::memcpy(row + g * sizeof(float), &scale, sizeof(float));
    for (size_t i = first; i < first + n; ++i) {
      const uint8_t code = scale == 0 ? uint8_t{0} : format.encode(x[i] / scale);
      if (format.bits <= 4)
        codes[i / 2] = static_cast<uint8_t>(codes[i / 2] | (code & 15) << (i % 2 * 4));
      else
        codes[i] = code;
    }
  }
}

void KvFormat::decode(const std::byte* row, float* x, size_t head_dim) const {
  if (type_) return kernels().decode[type_->index](row, x, head_dim);
  if (!scheme_) {
    std::memcpy(x, row, head_dim * sizeof(float));
    return;
  }
  const std::span<const float, 256> values = scheme_->format->values();
  const size_t group = scheme_->columns_per_scale(head_dim), n_scales = scheme_->n_scales(1, head_dim);
  const auto* codes = reinterpret_cast<const uint8_t*>(row + n_scales * sizeof(float));
  const bool packed = scheme_->format->bits <= 4;
  float scale = 1;
  for (size_t first = 0, g = 0; first < head_dim; first += group, ++g) {
    if (n_scales > 0) std::memcpy(&scale, row + g * sizeof(float), sizeof(float));
    const size_t last = std::min(head_dim, first + group);
    for (size_t i = first; i < last; ++i) x[i] = values[packed ? codes[i / 2] >> (i % 2 * 4) & 15 : codes[i]] * scale;
  }
}

KvFormats parse_kv_formats(std::string_view text) {
  const size_t slash = text.find('/');
  KvFormats formats;
  formats.keys = KvFormat::parse(text.substr(0, slash));
  formats.values = slash == std::string_view::npos ? formats.keys : KvFormat::parse(text.substr(slash + 1));
  return formats;
}

}  // namespace tsubu
