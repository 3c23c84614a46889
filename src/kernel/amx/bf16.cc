// Products of bfloat16 numbers on the tile unit (AMX): sixteen rows of a by sixteen columns of b for each instruction, two
// by two of them side by side. The rest of that machine's kernels are those of avx512.
#include <immintrin.h>

#include <cstring>

#include "kernel/kernels.h"

namespace tsubu::amx {

void fill_bf16_kernels(Kernels& k);

namespace {

constexpr size_t kSide = 16;  // rows of a tile; pairs and columns in one of its rows

// Tiles 0-3: sums (first and second rows of a, first and second panel of b); 4, 5: a; 6, 7: b.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

TileConfig config_of(size_t rows_first, size_t rows_second) {
  TileConfig config;
  const auto first = static_cast<uint8_t>(rows_first), second = static_cast<uint8_t>(rows_second);
  const uint8_t rows[8] = {first, first, second, second, first, second, kSide, kSide};
  for (size_t i = 0; i < 8; ++i) {
    config.rows[i] = rows[i];
    config.row_bytes[i] = rows[i] ? 64 : 0;
  }
  return config;
}

// Long rows are taken in pieces of kDepth pairs, so that two panels of b stay in the first cache while the rows of a, which
// stay in the second, pass by; sums wait in c from piece to piece, which changes none of their bits.
constexpr size_t kDepth = 256;
static_assert(kDepth % kSide == 0);

struct Operands {
  const uint32_t* a;
  const uint32_t* b;
  float* c;
  size_t lda, ldc, n_pairs;
};

// Pairs [first, last) of a product; sums start at zero when first is 0.
template <bool two_rows, bool two_panels>
void tiles(const Operands& o, size_t row, size_t panel, size_t first, size_t last) {
  const uint32_t* a = o.a + row * o.lda;
  const uint32_t* b = o.b + panel * o.n_pairs * kSide;
  const size_t stride_a = o.lda * sizeof(uint32_t), panel_pairs = o.n_pairs * kSide;
  float* c = o.c + row * o.ldc + panel * kSide;
  const size_t stride_c = o.ldc * sizeof(float);
  if (first == 0) {
    _tile_zero(0);
    if constexpr (two_panels) _tile_zero(1);
    if constexpr (two_rows) _tile_zero(2);
    if constexpr (two_rows && two_panels) _tile_zero(3);
  } else {
    _tile_loadd(0, c, stride_c);
    if constexpr (two_panels) _tile_loadd(1, c + kSide, stride_c);
    if constexpr (two_rows) _tile_loadd(2, c + kSide * o.ldc, stride_c);
    if constexpr (two_rows && two_panels) _tile_loadd(3, c + kSide * o.ldc + kSide, stride_c);
  }
  for (size_t k = first; k < last; k += kSide) {
    _tile_loadd(4, a + k, stride_a);
    _tile_loadd(6, b + k * kSide, 64);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (two_panels) {
      _tile_loadd(7, b + panel_pairs + k * kSide, 64);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (two_rows) {
      _tile_loadd(5, a + kSide * o.lda + k, stride_a);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (two_panels) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, c, stride_c);
  if constexpr (two_panels) _tile_stored(1, c + kSide, stride_c);
  if constexpr (two_rows) _tile_stored(2, c + kSide * o.ldc, stride_c);
  if constexpr (two_rows && two_panels) _tile_stored(3, c + kSide * o.ldc + kSide, stride_c);
}

// The whole rows (a multiple of kSide), then the rest under a configuration of its own.
template <bool two_panels>
void rows_of(const Operands& o, size_t n_a, size_t panel, size_t first, size_t last) {
  size_t r = 0;
  for (; r + 2 * kSide <= n_a; r += 2 * kSide) tiles<true, two_panels>(o, r, panel, first, last);
  if (r < n_a) tiles<false, two_panels>(o, r, panel, first, last);
}

void panels_of(const Operands& o, size_t n_a, size_t n_panels) {
  for (size_t first = 0; first < o.n_pairs; first += kDepth) {
    const size_t last = first + kDepth < o.n_pairs ? first + kDepth : o.n_pairs;
    size_t p = 0;
    for (; p + 2 <= n_panels; p += 2) rows_of<true>(o, n_a, p, first, last);
    if (p < n_panels) rows_of<false>(o, n_a, p, first, last);
  }
}

void products_bf16(const uint32_t* a, size_t lda, const uint32_t* b, size_t n_panels, size_t n_pairs, size_t n_a,
                   float* c, size_t ldc) {
  const size_t whole = n_a / kSide * kSide;
  if (whole > 0) {
    const TileConfig config = config_of(kSide, kSide);
    _tile_loadconfig(&config);
    panels_of({a, b, c, lda, ldc, n_pairs}, whole, n_panels);
  }
  if (whole < n_a) {
    const TileConfig config = config_of(n_a - whole, 0);
    _tile_loadconfig(&config);
    panels_of({a + whole * lda, b, c + whole * ldc, lda, ldc, n_pairs}, n_a - whole, n_panels);
  }
  _tile_release();
}

}  // namespace

void fill_bf16_kernels(Kernels& k) { k.products_bf16 = products_bf16; }

}  // namespace tsubu::amx
