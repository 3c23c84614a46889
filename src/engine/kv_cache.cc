#include "engine/kv_cache.h"

#include <algorithm>
#include <array>
#include <optional>

#include "base/checked.h"
#include "base/error.h"
#include "codec/lanes.h"

namespace tsubu {

void CacheLayer::store(const float* k, const float* v, size_t position) const {
  for (size_t h = 0; h < n_kv_heads; ++h, k += head_dim, v += value_dim) {
    const size_t row = h * capacity + position;
    if (keys)
      std::copy_n(k, head_dim, keys + row * head_dim);
    else
      key_format->encode(k, key_rows + row * key_row_bytes, head_dim);
    if (!values) {
      value_format->encode(v, value_rows + row * value_row_bytes, value_dim);
      continue;
    }
    for (size_t d = 0; d < value_dim; ++d) values[(h * value_dim + d) * value_stride + position] = v[d];
  }
}

void CacheLayer::copy_prefix(const CacheLayer& from, size_t n) const {
  for (size_t h = 0; h < n_kv_heads; ++h) {
    std::copy_n(from.key_rows + h * from.capacity * key_row_bytes, n * key_row_bytes,
                key_rows + h * capacity * key_row_bytes);
    if (!values) {
      std::copy_n(from.value_rows + h * from.capacity * value_row_bytes, n * value_row_bytes,
                  value_rows + h * capacity * value_row_bytes);
      continue;
    }
    for (size_t d = h * value_dim; d < (h + 1) * value_dim; ++d)
      std::copy_n(from.values + d * from.value_stride, n, values + d * value_stride);
  }
}

const float* CacheLayer::keys_of(size_t kv_head, size_t position, size_t n, float* buffer) const {
  const size_t row = kv_head * capacity + position;
  if (keys) return keys + row * head_dim;
  for (size_t i = 0; i < n; ++i)
    key_format->decode(key_rows + (row + i) * key_row_bytes, buffer + i * head_dim, head_dim);
  return buffer;
}

const float* CacheLayer::values_of(size_t kv_head, size_t position, size_t n, float* buffer, size_t& stride) const {
  stride = value_stride;
  if (values) return values + kv_head * value_dim * value_stride + position;
  stride = (n + kLanes - 1) / kLanes * kLanes;
  const std::byte* rows = value_rows + (kv_head * capacity + position) * value_row_bytes;
  // Sixteen positions at a time, so that whole cache lines of the transposed rows are written together.
  float* decoded = buffer + value_dim * stride;
  for (size_t first = 0; first < n; first += kLanes) {
    const size_t count = std::min<size_t>(kLanes, n - first);
    for (size_t i = 0; i < count; ++i)
      value_format->decode(rows + (first + i) * value_row_bytes, decoded + i * value_dim, value_dim);
    for (size_t d = 0; d < value_dim; ++d)
      for (size_t i = 0; i < count; ++i) buffer[d * stride + first + i] = decoded[i * value_dim + d];
  }
  return buffer;
}

size_t CacheLayer::buffer_floats(size_t n_keys) const {
  const size_t stride = (n_keys + kLanes - 1) / kLanes * kLanes;
  return keys && values ? 0 : std::max(head_dim, value_dim) * (stride + kLanes);
}

KvCache::KvCache(const void* owner, std::span<const CacheShape> shapes, size_t capacity, const KvFormats& formats)
    : owner_(owner), formats_(formats), capacity_(capacity) {
  constexpr uint64_t kAlignment = 64;
  const auto stride = checked_align(capacity, kLanes);
  std::optional<uint64_t> total = stride ? std::optional<uint64_t>(0) : std::nullopt;
  std::vector<uint64_t> offsets;  // of keys and values, in turn
  const auto place = [&](size_t n_heads, std::optional<uint64_t> positions, uint64_t row_bytes) {
    const auto bytes =
        total && positions ? checked_product(std::array<uint64_t, 3>{n_heads, *positions, row_bytes}) : std::nullopt;
    offsets.push_back(total.value_or(0));
    total = bytes ? checked_add(*total, *bytes) : std::nullopt;
    if (total) total = checked_align(*total, kAlignment);
  };
  for (const CacheShape& s : shapes) {
    place(s.n_kv_heads, capacity, formats_.keys.row_bytes(s.head_dim));
    place(s.n_kv_heads, formats_.values.is_f32() ? stride : capacity, formats_.values.row_bytes(s.value_dim));
  }
  if (total) memory_.reset(static_cast<std::byte*>(std::calloc(std::max<size_t>(*total, 1), 1)));
  if (!memory_)
    fail(ExitCode::kUsage, "a key/value cache for {} tokens does not fit into memory: ask for a shorter context",
         capacity);
  size_bytes_ = *total;
  for (size_t i = 0; i < shapes.size(); ++i) {
    CacheLayer layer;
    layer.n_kv_heads = shapes[i].n_kv_heads;
    layer.head_dim = shapes[i].head_dim;
    layer.value_dim = shapes[i].value_dim;
    layer.capacity = capacity;
    layer.value_stride = *stride;
    layer.key_format = &formats_.keys;
    layer.value_format = &formats_.values;
    layer.key_row_bytes = formats_.keys.row_bytes(layer.head_dim);
    layer.value_row_bytes = formats_.values.row_bytes(layer.value_dim);
    layer.key_rows = memory_.get() + offsets[2 * i];
    layer.value_rows = memory_.get() + offsets[2 * i + 1];
    if (formats_.keys.is_f32()) layer.keys = reinterpret_cast<float*>(layer.key_rows);
    if (formats_.values.is_f32()) layer.values = reinterpret_cast<float*>(layer.value_rows);
    layers_.push_back(layer);
  }
}

void KvCache::copy_prefix(const Session& from, size_t n_tokens) {
  const auto* other = dynamic_cast<const KvCache*>(&from);
  if (!other || other->owner_ != owner_) fail(ExitCode::kUsage, "a session of another engine");
  if (n_tokens > other->n_past_ || n_tokens > capacity_)
    fail(ExitCode::kUsage, "{} tokens of a session of {} into one of {}: they are not there or do not fit", n_tokens,
         other->n_past_, capacity_);
  if (other != this)
    for (size_t i = 0; i < layers_.size(); ++i) layers_[i].copy_prefix(other->layers_[i], n_tokens);
  n_past_ = n_tokens;
}

void KvCache::truncate(size_t n_past) {
  if (n_past > n_past_) fail(ExitCode::kUsage, "a session of {} tokens cannot be cut back to {}", n_past_, n_past);
  n_past_ = n_past;
}

}  // namespace tsubu
