// Keys and values of one sequence for every attention operation of a graph, as floats or in a compact format.
#pragma once

#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "engine/kv_format.h"

namespace tsubu {

struct CacheShape {
  size_t n_kv_heads = 0, head_dim = 0, value_dim = 0;
};

// Layout of one attention. As floats: keys (kv head, position, head_dim); values transposed, (kv head, value_dim,
// position) with `value_stride` positions a row, so that both products of attention are dot products over contiguous
// floats. In a compact format: rows of head_dim and of value_dim, (kv head, position).
struct CacheLayer {
  float* keys = nullptr;    // nullptr when compact
  float* values = nullptr;  // nullptr when compact
  std::byte* key_rows = nullptr;
  std::byte* value_rows = nullptr;
  const KvFormat* key_format = nullptr;
  const KvFormat* value_format = nullptr;
  size_t key_row_bytes = 0, value_row_bytes = 0;
  size_t n_kv_heads = 0, head_dim = 0, value_dim = 0, capacity = 0, value_stride = 0;

  // n keys from a position on, (n, head_dim): in place, or decoded into `buffer`.
  const float* keys_of(size_t kv_head, size_t position, size_t n, float* buffer) const;
  // n values from a position on, transposed, (value_dim, n) with `stride` floats a row: in place, or decoded into
  // `buffer`.
  const float* values_of(size_t kv_head, size_t position, size_t n, float* buffer, size_t& stride) const;
  // What keys_of and values_of need for so many positions.
  size_t buffer_floats(size_t n_keys) const;
  // Positions [0, n) of a layer of the same shape and formats, whatever its capacity.
  void copy_prefix(const CacheLayer& from, size_t n) const;
  // k holds n_kv_heads · head_dim values of one token, v n_kv_heads · value_dim.
  void store(const float* k, const float* v, size_t position) const;
};

class KvCache : public Session {
 public:
  // Throws Error(kUsage) when the memory is not to be had or a format does not fit the heads. `formats` are copied.
  KvCache(const void* owner, std::span<const CacheShape> shapes, size_t capacity, const KvFormats& formats = {});
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;
  size_t n_past() const override { return n_past_; }
  size_t capacity() const override { return capacity_; }
  uint64_t size_bytes() const override { return size_bytes_; }
  void truncate(size_t n_past) override;
  void copy_prefix(const Session& from, size_t n_tokens) override;
  void advance(size_t n_tokens) { n_past_ += n_tokens; }
  const void* owner() const { return owner_; }
  // For Engine::run_steps: where its windows are several sequences one behind the other, the first token of each (ascending,
  // from 0); none: one sequence. Positions begin anew there, and no token sees another sequence: the values are, to the bit,
  // those of each in a window of its own. run_steps throws Error(kUsage) on starts that its window does not have.
  void set_starts(std::span<const uint32_t> starts) { starts_.assign(starts.begin(), starts.end()); }
  std::span<const uint32_t> starts() const { return starts_; }
  const CacheLayer& layer(size_t attention) const { return layers_[attention]; }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  const void* owner_;
  KvFormats formats_;
  size_t n_past_ = 0, capacity_;
  std::vector<uint32_t> starts_;
  uint64_t size_bytes_ = 0;
  std::unique_ptr<std::byte[], Free> memory_;  // zeroed, pages touched when used
  std::vector<CacheLayer> layers_;
};

}  // namespace tsubu
