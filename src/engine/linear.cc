#include "engine/linear.h"

#include <algorithm>

#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr size_t kTileFloats =
    64 * 1024;  // a decoded tile of 256 KiB leaves the second-level cache room for activations
constexpr size_t kMinTileRows = 8, kMaxTileRows = 64;  // multiples of the kernels' row tiles
constexpr size_t kWorthThreads = 1 << 15;              // multiplications below which waking threads costs more

size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

}  // namespace

size_t max_tile_rows(size_t n_cols, size_t n_rows) {
  const size_t fitting = kTileFloats / n_cols / kMinTileRows * kMinTileRows;
  return std::min(std::clamp(fitting, kMinTileRows, kMaxTileRows), round_up(n_rows, kMinTileRows));
}

void each_row_tile(size_t n_rows, size_t n_cols, size_t n_tokens, ThreadPool& pool,
                   const std::function<void(size_t first, size_t n, int worker)>& f) {
  const size_t threads = static_cast<size_t>(pool.size());
  // A decoded tile serves all tokens. One token alone is a stream over the weights: small tiles that stay in the first
  // cache, many to an item.
  const size_t most = max_tile_rows(n_cols, n_rows);
  const size_t tile = n_tokens == 1 ? kMinTileRows : most;
  const size_t fair = round_up((n_rows + 4 * threads - 1) / (4 * threads), kMinTileRows);
  const size_t per_item = n_tokens == 1 ? std::clamp(fair, kMinTileRows, 4 * kMaxTileRows) : std::min(tile, fair);
  const auto item_of = [&](size_t item, int worker) {
    const size_t last = std::min(n_rows, (item + 1) * per_item);
    for (size_t row = item * per_item; row < last; row += tile) f(row, std::min(tile, last - row), worker);
  };
  const size_t n_items = (n_rows + per_item - 1) / per_item;
  if (n_rows * n_cols * n_tokens < kWorthThreads) {
    for (size_t i = 0; i < n_items; ++i) item_of(i, 0);
  } else {
    pool.parallel_for(n_items, item_of);
  }
}

std::vector<float> read_vector(const ModelTensor& tensor) {
  std::vector<float> values(tensor.n_elements());
  tensor.read_rows(0, tensor.n_rows(), values.data());
  return values;
}

Linear::Linear(const ModelTensor& weight, const ModelTensor* bias)
    : weight_(&weight),
      raw_(weight.raw()),
      n_rows_(weight.n_rows()),
      n_cols_(weight.n_cols()),
      rounding_(act_rounding_of(weight.type())) {
  if (bias) bias_ = read_vector(*bias);
  if (raw_.empty()) return;
  row_bytes_ = raw_.size() / n_rows_;
  constexpr uint32_t kF32Id = 0;
  if (weight.type().gguf_id == kF32Id && reinterpret_cast<uintptr_t>(raw_.data()) % alignof(float) == 0)
    floats_ = reinterpret_cast<const float*>(raw_.data());
}

size_t Linear::scratch_floats() const { return floats_ ? 0 : max_tile_rows(n_cols_, n_rows_) * n_cols_; }

const float* Linear::rows(size_t first, size_t n, float* tile) const {
  if (floats_) return floats_ + first * n_cols_;
  if (raw_.empty()) {
    weight_->read_rows(first, n, tile);
  } else {
    kernels().decode[weight_->type().index](raw_.data() + first * row_bytes_, tile, n * n_cols_);
  }
  return tile;
}

void Linear::add_bias(float* y, size_t n_tokens, size_t first, size_t n) const {
  if (bias_.empty()) return;
  for (size_t t = 0; t < n_tokens; ++t) {
    float* out = y + t * n_rows_ + first;
    kernels().add(out, bias_.data() + first, out, n);
  }
}

void Linear::run(const float* x, float* y, size_t n_tokens, std::span<std::vector<float>> scratch,
                 ThreadPool& pool) const {
  each_row_tile(n_rows_, n_cols_, n_tokens, pool, [&](size_t row, size_t n, int worker) {
    float* buffer = scratch[static_cast<size_t>(worker)].data();
    kernels().gemm_nt(rows(row, n, buffer), n_cols_, x, n_cols_, y + row, n_rows_, n, n_tokens, n_cols_);
    add_bias(y, n_tokens, row, n);
  });
}

}  // namespace tsubu
