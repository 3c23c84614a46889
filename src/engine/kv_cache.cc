#include "engine/kv_cache.h"

#include <algorithm>
#include <array>
#include <optional>

#include "base/checked.h"
#include "base/error.h"

namespace tsubu {

void CacheLayer::store(const float* k, const float* v, size_t position) const {
  for (size_t h = 0; h < n_kv_heads; ++h, k += head_dim, v += head_dim) {
    std::copy_n(k, head_dim, keys + (h * capacity + position) * head_dim);
    for (size_t d = 0; d < head_dim; ++d) values[(h * head_dim + d) * value_stride + position] = v[d];
  }
}

KvCache::KvCache(const void* owner, std::span<const CacheShape> shapes, size_t capacity)
    : owner_(owner), capacity_(capacity) {
  const auto stride = checked_align(capacity, 16);
  const auto per_position = [&] {
    std::optional<uint64_t> sum = 0;
    for (const CacheShape& s : shapes) {
      const auto width = checked_mul(s.n_kv_heads, s.head_dim);
      sum = sum && width ? checked_add(*sum, *width) : std::nullopt;
    }
    return sum;
  }();
  // Keys and values each take per_position · stride floats at most.
  const auto n_floats =
      stride && per_position ? checked_product(std::array<uint64_t, 3>{2, *stride, *per_position}) : std::nullopt;
  const auto n_bytes = n_floats ? checked_mul(*n_floats, sizeof(float)) : std::nullopt;
  if (n_bytes) memory_.reset(static_cast<float*>(std::calloc(std::max<size_t>(*n_floats, 1), sizeof(float))));
  if (!memory_)
    fail(ExitCode::kUsage, "a key/value cache for {} tokens does not fit into memory: ask for a shorter context",
         capacity);
  float* next = memory_.get();
  for (const CacheShape& s : shapes) {
    CacheLayer layer;
    layer.n_kv_heads = s.n_kv_heads;
    layer.head_dim = s.head_dim;
    layer.capacity = capacity;
    layer.value_stride = *stride;
    layer.keys = next;
    next += s.n_kv_heads * s.head_dim * capacity;
    layer.values = next;
    next += s.n_kv_heads * s.head_dim * *stride;
    layers_.push_back(layer);
  }
}

void KvCache::truncate(size_t n_past) {
  if (n_past > n_past_) fail(ExitCode::kUsage, "a session of {} tokens cannot be cut back to {}", n_past_, n_past);
  n_past_ = n_past;
}

}  // namespace tsubu
