#include "engine/linear.h"

#include <algorithm>

#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr size_t kTileFloats = 512 * 1024;             // of a decoded tile: 64 rows of any usual width
constexpr size_t kMinTileRows = 8, kMaxTileRows = 64;  // multiples of the kernels' row tiles
constexpr size_t kWorthThreads = 1 << 15;              // multiplications below which waking threads costs more

constexpr size_t kPanel = 16;                          // rows of a bfloat16 panel
constexpr size_t kPanelsAnItem = 8;

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

void Linear::run(const float* x, float* y, size_t n_tokens, std::span<AlignedVector<float>> scratch,
                 ThreadPool& pool) const {
  each_row_tile(n_rows_, n_cols_, n_tokens, pool, [&](size_t row, size_t n, int worker) {
    float* buffer = scratch[static_cast<size_t>(worker)].data();
    kernels().gemm_nt(rows(row, n, buffer), n_cols_, x, n_cols_, y + row, n_rows_, n, n_tokens, n_cols_);
    add_bias(y, n_tokens, row, n);
  });
}

void Bf16Inputs::assign(const float* x, size_t n_tokens, size_t n_cols, ThreadPool& pool) {
  n_tokens_ = n_tokens;
  // A line more than the padded row: rows a large power of two apart would throw each other out of the first cache.
  ld_ = round_up((n_cols + 1) / 2, kPanel) + kPanel;
  pairs_.assign(n_tokens * ld_, 0);
  constexpr size_t kTokens = 16;
  pool.parallel_for((n_tokens + kTokens - 1) / kTokens, [&](size_t item, int) {
    for (size_t t = item * kTokens; t < std::min(n_tokens, (item + 1) * kTokens); ++t)
      kernels().round_to_bf16(x + t * n_cols, n_cols, reinterpret_cast<uint16_t*>(pairs_.data() + t * ld_));
  });
}

bool Linear::runs_bf16() const { return n_rows_ % kPanel == 0; }

void Linear::run_bf16(const Bf16Inputs& x, float* y, std::span<Bf16Scratch> scratch, ThreadPool& pool) const {
  const Kernels& k = kernels();
  const size_t n_pairs = x.ld() - kPanel, n_panels = n_rows_ / kPanel;
  pool.parallel_for((n_panels + kPanelsAnItem - 1) / kPanelsAnItem, [&](size_t item, int worker) {
    Bf16Scratch& s = scratch[static_cast<size_t>(worker)];
    if (!floats_ && s.rows.size() < kPanel * n_cols_) s.rows.resize(kPanel * n_cols_);
    s.pairs.assign(kPanel * n_pairs, 0);
    if (s.panels.size() < kPanelsAnItem * kPanel * n_pairs) s.panels.resize(kPanelsAnItem * kPanel * n_pairs);
    const size_t first = item * kPanelsAnItem, n = std::min(kPanelsAnItem, n_panels - first);
    for (size_t p = 0; p < n; ++p) {
      const float* w = rows((first + p) * kPanel, kPanel, s.rows.data());
      for (size_t r = 0; r < kPanel; ++r)
        k.round_to_bf16(w + r * n_cols_, n_cols_, reinterpret_cast<uint16_t*>(s.pairs.data() + r * n_pairs));
      uint32_t* panel = s.panels.data() + p * kPanel * n_pairs;
      for (size_t c = 0; c < n_pairs; c += kPanel)
        k.transpose_pairs(s.pairs.data() + c, n_pairs, panel + c * kPanel, kPanel);
    }
    const size_t row = first * kPanel;
    k.products_bf16(x.data(), x.ld(), s.panels.data(), n, n_pairs, x.n_tokens(), y + row, n_rows_);
    add_bias(y, x.n_tokens(), row, n * kPanel);
  });
}

}  // namespace tsubu
