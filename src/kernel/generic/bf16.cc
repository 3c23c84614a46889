// Products of bfloat16 numbers with f32 sums. Two neighbours along the summed dimension lie in 32 bits (a pair, the first
// in the low half), sixteen columns in the lanes. An element is one chain over the pairs in order, so it does not depend
// on tiling; how a pair is added is the instruction set's (lanes.h), so bits differ between instruction sets.
#include "kernel/generic/vector_math.h"
#include "kernel/kernels.h"

namespace tsubu::TSUBU_ISA {

void fill_bf16_kernels(Kernels& k);

namespace {

// Accumulators that stay in registers: rows × panels values.
#if defined(TSUBU_ISA_AVX512)
constexpr int kTileRows = 12, kTilePanels = 2;
#else
constexpr int kTileRows = 2, kTilePanels = 2;
#endif

struct Operands {
  const uint32_t* a;
  const uint32_t* b;
  float* c;
  size_t lda, ldc, n_pairs;
};

template <int rows, int panels>
TSUBU_INLINE void tile(const Operands& o, size_t row, size_t panel) {
  const uint32_t* a = o.a + row * o.lda;
  const uint32_t* b = o.b + panel * o.n_pairs * kStep;
  F acc[rows][panels];
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) acc[r][p] = Lanes::zero();
  for (size_t k = 0; k < o.n_pairs; ++k) {
    Lanes::P bv[panels];
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) bv[p] = Lanes::load_pairs(b + (static_cast<size_t>(p) * o.n_pairs + k) * kStep);
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) {
      const Lanes::P av = Lanes::set1_pair(a[static_cast<size_t>(r) * o.lda + k]);
#pragma GCC unroll 2
      for (int p = 0; p < panels; ++p) acc[r][p] = Lanes::add_pairs(acc[r][p], av, bv[p]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p)
      Lanes::store(o.c + (row + static_cast<size_t>(r)) * o.ldc + (panel + static_cast<size_t>(p)) * kStep, acc[r][p]);
}

template <int panels>
void rows_of(const Operands& o, size_t n_a, size_t panel) {
  size_t r = 0;
  for (; r + kTileRows <= n_a; r += kTileRows) tile<kTileRows, panels>(o, r, panel);
  for (; r < n_a; ++r) tile<1, panels>(o, r, panel);
}

void products_bf16(const uint32_t* a, size_t lda, const uint32_t* b, size_t n_panels, size_t n_pairs, size_t n_a,
                   float* c, size_t ldc) {
  const Operands o = {a, b, c, lda, ldc, n_pairs};
  size_t p = 0;
  for (; p + kTilePanels <= n_panels; p += kTilePanels) rows_of<kTilePanels>(o, n_a, p);
  for (; p < n_panels; ++p) rows_of<1>(o, n_a, p);
}

TSUBU_INLINE uint32_t bf16_bits(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}

void round_to_bf16(const float* x, size_t n, uint16_t* y) {
  for (size_t i = 0; i < n; ++i) y[i] = static_cast<uint16_t>(bf16_bits(x[i]));
}

void pair_rows_bf16(const float* first, const float* second, size_t n, uint32_t* pairs) {
  for (size_t i = 0; i < n; ++i) pairs[i] = bf16_bits(first[i]) | bf16_bits(second[i]) << 16;
}

void transpose_pairs(const uint32_t* in, size_t ld_in, uint32_t* out, size_t ld_out) {
  Lanes::transpose(in, ld_in, out, ld_out);
}

}  // namespace

void fill_bf16_kernels(Kernels& k) {
  k.products_bf16 = products_bf16;
  k.round_to_bf16 = round_to_bf16;
  k.pair_rows_bf16 = pair_rows_bf16;
  k.transpose_pairs = transpose_pairs;
}

}  // namespace tsubu::TSUBU_ISA
