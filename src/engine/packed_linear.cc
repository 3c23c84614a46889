#include "engine/packed_linear.h"

#include <algorithm>

namespace tsubu {
namespace {

constexpr size_t kLine = 64;
constexpr size_t kGroupRows = 4 * kPackedRows;  // tiles that stay in the second cache while all tokens pass
constexpr size_t kFewTokens = 4;                // below: token by token, a tile would not pay
constexpr size_t kWorthThreads = 1 << 16;       // multiplications below which waking threads costs more

struct Rows {
  const std::byte* bytes;
  size_t row_bytes;
  uint32_t type;
  explicit Rows(const Linear& linear)
      : bytes(linear.weight().raw().data()),
        row_bytes(linear.weight().raw().size() / linear.n_rows()),
        type(linear.weight().type().index) {}
  const std::byte* at(size_t row) const { return bytes + row * row_bytes; }
};

// f(first, n, worker) for groups of rows.
template <class Fn>
void each_group(const Linear& linear, size_t n_tokens, ThreadPool& pool, Fn f) {
  // A few tokens are a stream over the weights: kernels fetch the rows that follow, so long runs of rows for each thread.
  size_t rows = kGroupRows;
  if (n_tokens < kFewTokens) {
    const size_t items = 4 * static_cast<size_t>(pool.size());
    rows = std::max(rows, (linear.n_rows() / items + kPackedRows - 1) / kPackedRows * kPackedRows);
  }
  const size_t n = (linear.n_rows() + rows - 1) / rows;
  const auto group = [&](size_t i, int worker) {
    f(i * rows, std::min(rows, linear.n_rows() - i * rows), worker);
  };
  if (linear.n_rows() * linear.n_cols() * n_tokens < kWorthThreads) {
    for (size_t i = 0; i < n; ++i) group(i, 0);
  } else {
    pool.parallel_for(n, group);
  }
}

}  // namespace

void Int8Inputs::assign(const float* x, size_t n_tokens, size_t n_cols, ActRounding rounding, ThreadPool& pool) {
  const bool super = rounding == ActRounding::kQ8_K;
  const size_t n_sums = n_cols / 16, n_scales = n_cols / (super ? 256 : 32);
  codes.resize(n_tokens * n_cols);
  sums.resize(n_tokens * n_sums);
  scales.resize(n_tokens * n_scales);
  const auto encode = super ? packed_kernels().encode_q8_k : packed_kernels().encode_q8_0;
  const auto token = [&](size_t t, int) {
    encode(x + t * n_cols, n_cols, codes.data() + t * n_cols, sums.data() + t * n_sums, scales.data() + t * n_scales);
  };
  if (n_tokens * n_cols < kWorthThreads) {
    for (size_t t = 0; t < n_tokens; ++t) token(t, 0);
  } else {
    pool.parallel_for(n_tokens, token);
  }
}

bool has_packed_product(const Linear& linear) {
  return !linear.weight().raw().empty() && packed_kernels().dot_rows[linear.weight().type().index] != nullptr;
}

bool has_float_product(const Linear& linear) {
  return !linear.weight().raw().empty() && packed_kernels().float_dot_rows[linear.weight().type().index] != nullptr;
}

void run_packed(const Linear& linear, const Int8Inputs& x, float* y, size_t n_tokens,
                std::span<AlignedVector<float>> scratch, ThreadPool& pool) {
  const PackedKernels& k = packed_kernels();
  const Rows weights(linear);
  const size_t n_rows = linear.n_rows(), n_cols = linear.n_cols();
  const size_t n_scales = n_cols / (linear.rounding() == ActRounding::kQ8_K ? 256 : 32);
  each_group(linear, n_tokens, pool, [&](size_t first, size_t n, int worker) {
    if (n_tokens < kFewTokens) {
      for (size_t t = 0; t < n_tokens; ++t)
        k.dot_rows[weights.type](weights.at(first), weights.row_bytes, n,
                                 {x.codes.data() + t * n_cols, x.sums.data() + t * (n_cols / 16),
                                  x.scales.data() + t * n_scales},
                                 y + t * n_rows + first, n_cols);
    } else {
      const size_t tile_bytes = (packed_tile_bytes(n_cols) + kLine - 1) / kLine * kLine;
      auto& buffer = scratch[static_cast<size_t>(worker)];
      const size_t floats = (kGroupRows / kPackedRows * tile_bytes + kLine) / sizeof(float);
      if (buffer.size() < floats) buffer.resize(floats);
      auto* tiles = reinterpret_cast<std::byte*>(buffer.data());
      tiles += (kLine - reinterpret_cast<uintptr_t>(tiles) % kLine) % kLine;
      const auto each_tile = [&](auto f) {
        for (size_t r = 0; r < n; r += kPackedRows)
          f(first + r, std::min(kPackedRows, n - r), tiles + r / kPackedRows * tile_bytes);
      };
      each_tile([&](size_t row, size_t rows, std::byte* tile) {
        k.make_tile[weights.type](weights.at(row), weights.row_bytes, rows, n_cols, tile);
      });
      for (size_t t = 0; t < n_tokens; t += k.tile_tokens)
        each_tile([&](size_t row, size_t rows, const std::byte* tile) {
          k.tile_product[weights.type](tile, rows,
                                       {x.codes.data() + t * n_cols, x.sums.data() + t * (n_cols / 16),
                                        x.scales.data() + t * n_scales},
                                       std::min(k.tile_tokens, n_tokens - t), y + t * n_rows + row, n_rows, n_cols);
        });
    }
    linear.add_bias(y, n_tokens, first, n);
  });
}

void run_floats(const Linear& linear, const float* x, float* y, ThreadPool& pool) {
  const Rows weights(linear);
  each_group(linear, 1, pool, [&](size_t first, size_t n, int) {
    packed_kernels().float_dot_rows[weights.type](weights.at(first), weights.row_bytes, n, x, y + first,
                                                  linear.n_cols());
    linear.add_bias(y, 1, first, n);
  });
}

}  // namespace tsubu
