// Keys and values of one sequence, f32, for every attention operation of a graph.
#pragma once

#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "engine/engine.h"

namespace tsubu {

struct CacheShape {
  size_t n_kv_heads = 0, head_dim = 0;
};

// Layout of one attention: keys (kv head, position, head_dim); values transposed, (kv head, head_dim, position) with
// `value_stride` positions a row, so that both products of attention are dot products over contiguous floats.
struct CacheLayer {
  float* keys = nullptr;
  float* values = nullptr;
  size_t n_kv_heads = 0, head_dim = 0, capacity = 0, value_stride = 0;

  const float* keys_of(size_t kv_head, size_t position) const {
    return keys + (kv_head * capacity + position) * head_dim;
  }
  const float* values_of(size_t kv_head, size_t position) const {
    return values + kv_head * head_dim * value_stride + position;
  }
  // k and v hold n_kv_heads · head_dim values of one token.
  void store(const float* k, const float* v, size_t position) const;
};

class KvCache : public Session {
 public:
  // Throws Error(kUsage) when the memory is not to be had.
  KvCache(const void* owner, std::span<const CacheShape> shapes, size_t capacity);
  size_t n_past() const override { return n_past_; }
  size_t capacity() const override { return capacity_; }
  void truncate(size_t n_past) override;
  void advance(size_t n_tokens) { n_past_ += n_tokens; }
  const void* owner() const { return owner_; }
  const CacheLayer& layer(size_t attention) const { return layers_[attention]; }

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  const void* owner_;
  size_t n_past_ = 0, capacity_;
  std::unique_ptr<float[], Free> memory_;  // zeroed, pages touched when used
  std::vector<CacheLayer> layers_;
};

}  // namespace tsubu
