// Products of packed weights with 8-bit activations (kernel/packed_kernels.h). One token: a row's codes are taken apart
// in registers, the weights stream through once. Many: sixteen rows become a tile with a row in each lane, four columns a
// step, so that the sums of a sub-block need no reduction and meet their scales once.
#include "kernel/packed_kernels.h"

#include "kernel/byte_lanes.h"
#include "kernel/generic/packed_activations.h"
#include "kernel/packed_parts.h"
#if defined(TSUBU_ISA_AVX512)
#include "kernel/wide_rows_avx512.h"
#include "kernel/wide_tiles_avx512.h"
#endif

namespace tsubu::TSUBU_ISA {

void fill_packed_kernels(PackedKernels& k);

namespace {

using V = Bytes::V;

#if defined(TSUBU_ISA_AVX512)
constexpr size_t kTileTokens = 8;
#elif defined(TSUBU_ISA_AVX2)
constexpr size_t kTileTokens = 4;
#else
constexpr size_t kTileTokens = 2;
#endif

template <class P, class Block>
TSUBU_INLINE float add_block(float y, const Block& block, int32_t sum, int32_t min_sum, float scale) {
  y = __builtin_fmaf(static_cast<float>(sum), d_of<P, Bytes>(block) * scale, y);
  if constexpr (P::kHasMins)
    y = __builtin_fmaf(static_cast<float>(min_sum), Bytes::f16(P::offset(block)) * scale, y);
  return y;
}

template <class P, class Block, int c>
TSUBU_INLINE I add_chunk(I acc, const Block& block, I scale, const int8_t* x) {
  const I sums = dot4<P, Bytes>(L::set1_i(0), P::template codes<Bytes, c>(block), Bytes::load(x + 64 * c));
  return L::add(acc, L::mul(sums, Bytes::quarter<c>(scale)));
}

template <class C>
TSUBU_INLINE float dot_super(const typename C::Block* blocks, const Int8Rows& x, size_t n_blocks) {
  using P = PackedForm<C>;
  using Block = typename C::Block;
  float y = 0.0f;
  for (size_t b = 0; b < n_blocks; ++b) {
    I scale, min = L::set1_i(0);
    P::template scales<Bytes>(blocks[b], scale, min);
    const int8_t* codes = x.codes + 256 * b;
    I acc = add_chunk<P, Block, 0>(L::set1_i(0), blocks[b], scale, codes);
    acc = add_chunk<P, Block, 1>(acc, blocks[b], scale, codes);
    acc = add_chunk<P, Block, 2>(acc, blocks[b], scale, codes);
    acc = add_chunk<P, Block, 3>(acc, blocks[b], scale, codes);
    const I sums = L::load_i(x.sums + 16 * b);
    if constexpr (P::kBias != 0) acc = L::sub(acc, L::mul(L::mul(scale, sums), L::set1_i(P::kBias)));
    const int32_t min_sum = P::kHasMins ? Bytes::sum(L::mul(min, sums)) : 0;
    y = add_block<P>(y, blocks[b], Bytes::sum(acc), min_sum, x.scales[b]);
  }
  return y;
}

template <class C>
TSUBU_INLINE float dot_short(const typename C::Block* blocks, const Int8Rows& x, size_t n_blocks) {
  using P = PackedForm<C>;
  float y = 0.0f;
  const auto add = [&](size_t b, int32_t sum) __attribute__((always_inline)) {
    const int32_t total = x.sums[2 * b] + x.sums[2 * b + 1];
    y = add_block<P>(y, blocks[b / kPackedParts<C>], sum - P::kBias * total, total, x.scales[b]);
  };
  for (size_t b = 0; b < n_blocks; b += 2) {
    const size_t next = b + 1 < n_blocks ? b + 1 : b;
    const V codes = short_codes<C, Bytes>(blocks, b, next);
    int32_t sums[2];
    Bytes::half_sums(dot4<P, Bytes>(L::set1_i(0), codes, Bytes::load_halves(x.codes + 32 * b, x.codes + 32 * next)), sums);
    add(b, sums[0]);
    if (next != b) add(next, sums[1]);
  }
  return y;
}

// Sixteen rows at once, a row in each lane where sums meet their scales: the same sums in the same order. The rows after
// them are fetched on the way.
template <class C, class B>
struct SixteenRows {
  using P = PackedForm<C>;
  using Block = typename C::Block;
  const std::byte* rows;
  size_t row_bytes;

  TSUBU_INLINE const Block* row(size_t r) const { return reinterpret_cast<const Block*>(rows + r * row_bytes); }
  TSUBU_INLINE const Block& block(size_t r, size_t b) const { return row(r)[b]; }
  // The sixteen rows after these are fetched on the way, in the order of their bytes: streams of single rows would be too
  // many for the machine's own prefetcher, and too short.
  // Row r's share for n blocks (or parts) from b on.
  TSUBU_INLINE void fetch(size_t r, size_t b, size_t n) const {
    constexpr size_t kBytes = sizeof(Block) * kPackedRows / kPackedParts<C>;
    const size_t n_lines = (n * kBytes + 63) / 64;
    const std::byte* next = rows + kPackedRows * row_bytes + b * kBytes;
#pragma GCC unroll 8
    for (size_t line = 0; line + kPackedRows <= n_lines; line += kPackedRows) __builtin_prefetch(next + (line + r) * 64, 0, 2);
    if (r < n_lines % kPackedRows) __builtin_prefetch(next + (n_lines / kPackedRows * kPackedRows + r) * 64, 0, 2);
  }
  TSUBU_INLINE F add(F y, size_t b, I sum, I min_sum, float scale) const {
    const F x = L::set1(scale);
    b /= kPackedParts<C>;
    F d;
    if constexpr (requires(const Block& of) { P::d_value(of); }) {
      float values[kPackedRows];
      for (size_t r = 0; r < kPackedRows; ++r) values[r] = P::d_value(block(r, b));
      d = L::load(values);
    } else {
      d = B::f16_of_rows([&](size_t r) __attribute__((always_inline)) { return P::d(block(r, b)); });
      if constexpr (requires { P::kFactor; }) d = L::mul(d, L::set1(P::kFactor));
    }
    y = L::fma(L::to_float(sum), L::mul(d, x), y);
    if constexpr (P::kHasMins) {
      const F m = B::f16_of_rows([&](size_t r) __attribute__((always_inline)) { return P::offset(block(r, b)); });
      y = L::fma(L::to_float(min_sum), L::mul(m, x), y);
    }
    return y;
  }

  F super_blocks(const Int8Rows& x, size_t n_blocks) const {
    F y = L::zero();
    for (size_t b = 0; b < n_blocks; ++b) {
      I sums[kPackedRows], min_sums[kPackedRows];
      const int8_t* codes = x.codes + 256 * b;
      const I of_16 = L::load_i(x.sums + 16 * b);
      for (size_t r = 0; r < kPackedRows; ++r) {
        const Block& from = block(r, b);
        fetch(r, b, 1);
        I scale, min = L::set1_i(0);
        P::template scales<Bytes>(from, scale, min);
        I acc = add_chunk<P, Block, 0>(L::set1_i(0), from, scale, codes);
        acc = add_chunk<P, Block, 1>(acc, from, scale, codes);
        acc = add_chunk<P, Block, 2>(acc, from, scale, codes);
        acc = add_chunk<P, Block, 3>(acc, from, scale, codes);
        if constexpr (P::kBias != 0) acc = L::sub(acc, L::mul(L::mul(scale, of_16), L::set1_i(P::kBias)));
        sums[r] = acc;
        if constexpr (P::kHasMins) min_sums[r] = L::mul(min, of_16);
      }
      I min_sum = L::set1_i(0);
      if constexpr (P::kHasMins) min_sum = B::sums16(min_sums);
      y = add(y, b, B::sums16(sums), min_sum, x.scales[b]);
    }
    return y;
  }

  F short_blocks(const Int8Rows& x, size_t n_blocks) const {
    F y = L::zero();
    const auto add_short = [&](size_t b, I sum) __attribute__((always_inline)) {
      const int32_t total = x.sums[2 * b] + x.sums[2 * b + 1];
      if constexpr (P::kBias != 0) sum = L::sub(sum, L::set1_i(P::kBias * total));
      y = add(y, b, sum, L::set1_i(total), x.scales[b]);
    };
    for (size_t b = 0; b < n_blocks; b += 2) {
      const size_t next = b + 1 < n_blocks ? b + 1 : b;
      const V codes = Bytes::load_halves(x.codes + 32 * b, x.codes + 32 * next);
      I sums[kPackedRows], first, second;
#pragma GCC unroll 16
      for (size_t r = 0; r < kPackedRows; ++r) {
        fetch(r, b, 2);
        sums[r] = dot4<P, Bytes>(L::set1_i(0), short_codes<C, Bytes>(row(r), b, next), codes);
      }
      B::half_sums16(sums, first, second);
      add_short(b, first);
      if (next != b) add_short(next, second);
    }
    return y;
  }
};

#if defined(TSUBU_ISA_AVX512)
// SixteenRows::super_blocks for types with a WideForm: the same numbers by fewer instructions.
template <class C>
F wide_super_blocks(const SixteenRows<C, Bytes>& rows, const Int8Rows& x, size_t n_blocks) {
  using P = PackedForm<C>;
  constexpr size_t kMins = WideForm<C>::kMins;
  I index[4];
  for (int j = 0; j < 4; ++j) index[j] = L::load_i(reinterpret_cast<const int32_t*>(kWideIndex<C>.v[j]));
  F y = L::zero();
  for (size_t b = 0; b < n_blocks; ++b) {
    const WideToken<C> token(x.codes + 256 * b, x.sums + 16 * b);
    I sums[kPackedRows];
    uint8_t mins[kPackedRows * kMins + 1];
    uint32_t halves[kPackedRows];
    for (size_t r = 0; r < kPackedRows; ++r) {
      const auto& block = rows.block(r, b);
      rows.fetch(r, b, 1);
      sums[r] = wide_sums<C>(block, token, index, mins + r * kMins);
      if constexpr (P::kHasMins)
        __builtin_memcpy(&halves[r], &block.d, 4);
      else
        halves[r] = P::d(block);
    }
    const I d = L::load_i(reinterpret_cast<const int32_t*>(halves));
    const F scale = L::set1(x.scales[b]);
    y = L::fma(L::to_float(Bytes::sums16(sums)), L::mul(low_halves(d), scale), y);
    if constexpr (P::kHasMins) {
      const F offset = high_halves(Bytes::bit_xor(d, L::set1_i(static_cast<int32_t>(0x80000000u))));
      y = L::fma(L::to_float(wide_min_sums<C>(mins, token)), L::mul(offset, scale), y);
    }
  }
  return y;
}
#endif

template <class B>
constexpr bool has_sixteen_rows() {
  return requires { B::kSixteenRows; };
}

template <class C>
void dot_rows(const std::byte* rows, size_t row_bytes, size_t n_rows, const Int8Rows& x, float* y, size_t n_cols) {
  size_t r = 0;
  if constexpr (has_sixteen_rows<Bytes>()) {
    for (; r + kPackedRows <= n_rows; r += kPackedRows) {
      const SixteenRows<C, Bytes> sixteen{rows + r * row_bytes, row_bytes};
      if constexpr (C::kBlockLen != 256)
        L::store(y + r, sixteen.short_blocks(x, n_cols / 32));
#if defined(TSUBU_ISA_AVX512)
      else if constexpr (HasWideForm<C>)
        L::store(y + r, wide_super_blocks<C>(sixteen, x, n_cols / 256));
#endif
      else
        L::store(y + r, sixteen.super_blocks(x, n_cols / 256));
    }
  }
  for (; r < n_rows; ++r) {
    const auto* blocks = reinterpret_cast<const typename C::Block*>(rows + r * row_bytes);
    if constexpr (C::kBlockLen == 256)
      y[r] = dot_super<C>(blocks, x, n_cols / 256);
    else
      y[r] = dot_short<C>(blocks, x, n_cols / 32);
  }
}

// Parts of a tile; each entry is sixteen lanes, one a row.
template <class C>
struct Tile {
  static constexpr size_t kSub = PackedForm<C>::kSub, kUnit = kPackedUnit<C>, kSubs = kUnit / kSub;
  uint8_t* codes;   // [n_cols / 4][row][4]
  int32_t* scale;   // [n_cols / kSub][row]
  int32_t* min;
  float* d;         // [n_cols / kUnit][row]
  float* offset;

  TSUBU_INLINE Tile(std::byte* bytes, size_t n_cols) {
    codes = reinterpret_cast<uint8_t*>(bytes);
    d = reinterpret_cast<float*>(codes + kPackedRows * n_cols);
    offset = d + n_cols / kUnit * kPackedRows;
    scale = reinterpret_cast<int32_t*>(offset + n_cols / kUnit * kPackedRows);
    min = scale + n_cols / kSub * kPackedRows;
  }
};

template <class C, size_t n_codes>
TSUBU_INLINE void put_codes(const Tile<C>& tile, size_t row, size_t col, const uint8_t* codes) {
  for (size_t i = 0; i < n_codes; i += 4)
    __builtin_memcpy(tile.codes + ((col + i) / 4 * kPackedRows + row) * 4, codes + i, 4);
}

template <class C>
void make_tile(const std::byte* rows, size_t row_bytes, size_t n_rows, size_t n_cols, std::byte* bytes) {
  using P = PackedForm<C>;
  const Tile<C> tile(bytes, n_cols);
  for (size_t r = 0; r < kPackedRows; ++r) {
    // Rows that are not there repeat the last one.
    const auto* blocks =
        reinterpret_cast<const typename C::Block*>(rows + (r < n_rows ? r : n_rows - 1) * row_bytes);
    for (size_t b = 0; b < n_cols / Tile<C>::kUnit; ++b) {
      const auto& block = blocks[b / kPackedParts<C>];
      tile.d[b * kPackedRows + r] = d_of<P, Bytes>(block);
      if constexpr (P::kHasMins) tile.offset[b * kPackedRows + r] = Bytes::f16(P::offset(block));
      if constexpr (C::kBlockLen == 256) {
        uint8_t codes[256];
        Bytes::store(codes, P::template codes<Bytes, 0>(block));
        Bytes::store(codes + 64, P::template codes<Bytes, 1>(block));
        Bytes::store(codes + 128, P::template codes<Bytes, 2>(block));
        Bytes::store(codes + 192, P::template codes<Bytes, 3>(block));
        put_codes<C, 256>(tile, r, 256 * b, codes);
        I scale, min = L::set1_i(0);
        P::template scales<Bytes>(block, scale, min);
        if constexpr (P::kBias != 0) min = L::mul(scale, L::set1_i(P::kBias));
        int32_t scales[16], mins[16];
        L::store_i(scales, scale);
        L::store_i(mins, min);
        for (size_t s = 0; s < Tile<C>::kSubs; ++s) {
          const size_t at = (b * Tile<C>::kSubs + s) * kPackedRows + r, from = s * Tile<C>::kSub / 16;
          tile.scale[at] = scales[from];
#if defined(TSUBU_ISA_AVX512)
          reinterpret_cast<int8_t*>(tile.min)[WideTile<C>::at(b, s, r)] = static_cast<int8_t>(P::kHasMins ? mins[from] : scales[from]);
#else
          tile.min[at] = mins[from];
#endif
        }
#if defined(TSUBU_ISA_AVX512)
        if constexpr (P::kBias != 0)
          reinterpret_cast<int32_t*>(tile.offset)[b * kPackedRows + r] =
              P::kBias * WideTile<C>::kShift * Bytes::sum(scale);
#endif
      } else {
        uint8_t codes[64];
        Bytes::store(codes, short_codes<C, Bytes>(blocks, b, b));
        put_codes<C, 32>(tile, r, 32 * b, codes);
      }
    }
  }
}

// y[t · ldy + r] of the first n_rows rows.
template <size_t tokens>
TSUBU_INLINE void store_rows(const F* out, size_t n_rows, float* y, size_t ldy) {
#pragma GCC unroll 8
  for (size_t t = 0; t < tokens; ++t) {
    if (n_rows == kPackedRows) {
      L::store(y + t * ldy, out[t]);
    } else {
      float part[kLanes];
      L::store(part, out[t]);
      for (size_t r = 0; r < n_rows; ++r) y[t * ldy + r] = part[r];
    }
  }
}

// acc[t] += codes of columns [col, col + n_cols of the sub-block) times token t's.
template <class C, size_t tokens>
TSUBU_INLINE void add_codes(I* acc, const Tile<C>& tile, const int8_t* codes, size_t n_cols, size_t col) {
#pragma GCC unroll 8
  for (size_t i = 0; i < Tile<C>::kSub; i += 4) {
    const V w = Bytes::load(tile.codes + (col + i) * kPackedRows);
#pragma GCC unroll 8
    for (size_t t = 0; t < tokens; ++t) acc[t] = dot4_all<PackedForm<C>, Bytes>(acc[t], w, codes + t * n_cols + col + i);
  }
}

// acc[t] += scale times codes (less their bias, if kSignedCodes) of the sub-block from col on times token t's, by sums of words.
template <class C, class B, size_t tokens>
TSUBU_INLINE void add_scaled_codes(I* acc, const Tile<C>& tile, const int8_t* codes, size_t n_cols, size_t col, I scale) {
  using P = PackedForm<C>;
  using Words = typename B::Words;
  constexpr size_t kStep = 4 * word_steps<P, Tile<C>::kSub>();
  const Words scales = B::both_words(scale);
#pragma GCC unroll 8
  for (size_t i = 0; i < Tile<C>::kSub; i += kStep) {
    Words sums[tokens];
#pragma GCC unroll 8
    for (size_t j = i; j < i + kStep; j += 4) {
      const V w = B::load(tile.codes + (col + j) * kPackedRows);
      const V code = kSignedCodes<P> ? B::bit_xor(w, B::set1(128)) : w, magnitude = kSignedCodes<P> ? B::magnitude(code) : w;
#pragma GCC unroll 8
      for (size_t t = 0; t < tokens; ++t) {
        const int8_t* x = codes + t * n_cols + col + j;
        const Words product = kSignedCodes<P> ? B::signed_word_products(magnitude, code, x) : B::word_products(w, x);
        sums[t] = j == i ? product : B::add(sums[t], product);
      }
    }
#pragma GCC unroll 8
    for (size_t t = 0; t < tokens; ++t) acc[t] = B::add_words(acc[t], sums[t], scales);
  }
}

// Blocks of 32: a sum begins with what the bias of the codes takes away.
template <class C, size_t tokens>
TSUBU_OUTLINE void short_product(const Tile<C>& tile, size_t n_rows, const Int8Rows& x, float* y, size_t ldy,
                                 size_t n_cols) {
  using P = PackedForm<C>;
  constexpr bool kUnbiased = kWordSums<P, Bytes> && kSignedCodes<P>;
  constexpr size_t kPiece = 64;  // blocks whose column sums are prepared together
  const size_t n_blocks = n_cols / 32;
  F out[tokens];
#pragma GCC unroll 8
  for (size_t t = 0; t < tokens; ++t) out[t] = L::zero();
  int32_t totals[tokens][kPiece];
  for (size_t first = 0; first < n_blocks; first += kPiece) {
    const size_t n = n_blocks - first < kPiece ? n_blocks - first : kPiece;
    for (size_t t = 0; t < tokens; ++t) {
      const int32_t* of_16 = x.sums + t * 2 * n_blocks + 2 * first;
      for (size_t b = 0; b < n; ++b) totals[t][b] = (of_16[2 * b] + of_16[2 * b + 1]) * (P::kBias ? -P::kBias : 1);
    }
    for (size_t b = first; b < first + n; ++b) {
      I acc[tokens];
#pragma GCC unroll 8
      for (size_t t = 0; t < tokens; ++t) acc[t] = L::set1_i(P::kBias && !kUnbiased ? totals[t][b - first] : 0);
      if constexpr (kWordSums<P, Bytes>)
        add_scaled_codes<C, Bytes, tokens>(acc, tile, x.codes, n_cols, 32 * b, L::set1_i(1));
      else
        add_codes<C, tokens>(acc, tile, x.codes, n_cols, 32 * b);
      const F d = L::load(tile.d + b * kPackedRows);
#pragma GCC unroll 8
      for (size_t t = 0; t < tokens; ++t) {
        const F scale = L::set1(x.scales[t * n_blocks + b]);
        out[t] = L::fma(L::to_float(acc[t]), L::mul(d, scale), out[t]);
        if constexpr (P::kHasMins)
          out[t] = L::fma(L::to_float(L::set1_i(totals[t][b - first])),
                          L::mul(L::load(tile.offset + b * kPackedRows), scale), out[t]);
      }
    }
  }
  store_rows<tokens>(out, n_rows, y, ldy);
}

// Blocks of 256.
template <class C, size_t tokens>
TSUBU_OUTLINE void super_product(const Tile<C>& tile, size_t n_rows, const Int8Rows& x, float* y, size_t ldy,
                                 size_t n_cols) {
  using P = PackedForm<C>;
  constexpr size_t kSubs = Tile<C>::kSubs;
  const size_t n_blocks = n_cols / 256;
  F out[tokens];
#pragma GCC unroll 8
  for (size_t t = 0; t < tokens; ++t) out[t] = L::zero();
  for (size_t b = 0; b < n_blocks; ++b) {
    I sums[tokens];
#pragma GCC unroll 8
    for (size_t t = 0; t < tokens; ++t) sums[t] = L::set1_i(0);
    for (size_t s = 0; s < kSubs; ++s) {
      const I scale = L::load_i(tile.scale + (b * kSubs + s) * kPackedRows);
      if constexpr (kWordSums<P, Bytes>) {
        add_scaled_codes<C, Bytes, tokens>(sums, tile, x.codes, n_cols, 256 * b + s * Tile<C>::kSub, scale);
        continue;
      }
      I acc[tokens];
#pragma GCC unroll 8
      for (size_t t = 0; t < tokens; ++t) acc[t] = L::set1_i(0);
      add_codes<C, tokens>(acc, tile, x.codes, n_cols, 256 * b + s * Tile<C>::kSub);
#pragma GCC unroll 8
      for (size_t t = 0; t < tokens; ++t) sums[t] = L::add(sums[t], L::mul(acc[t], scale));
    }
#if defined(TSUBU_ISA_AVX512)
    using Wide = WideTile<C>;
    alignas(64) uint8_t parts[tokens * Wide::kPartBytes];
#pragma GCC unroll 8
    for (size_t t = 0; t < tokens; ++t)
      Wide::split(x.sums + t * (n_cols / 16) + b * 16, parts + t * Wide::kPartBytes);
    V bytes[Wide::kWords];
    for (size_t w = 0; w < Wide::kWords; ++w)
      bytes[w] = Bytes::load(reinterpret_cast<const uint8_t*>(tile.min) + Wide::at(b, 4 * w, 0));
    const I excess = P::kBias != 0 ? L::load_i(reinterpret_cast<const int32_t*>(tile.offset) + b * kPackedRows) : L::set1_i(0);
    const auto min_sum = [&](size_t t) __attribute__((always_inline)) {
      return Wide::weighted(bytes, parts + t * Wide::kPartBytes, excess);
    };
#else
    const auto min_sum = [&](size_t t) __attribute__((always_inline)) {
      const int32_t* of_16 = x.sums + t * (n_cols / 16) + b * 16;
      I acc = L::set1_i(0);
#pragma GCC unroll 16
      for (size_t s = 0; s < kSubs; ++s) {
        const int32_t sum = kSubs == 16 ? of_16[s] : of_16[2 * s] + of_16[2 * s + 1];
        acc = L::add(acc, L::mul(L::load_i(tile.min + (b * kSubs + s) * kPackedRows), L::set1_i(sum)));
      }
      return acc;
    };
#endif
    const F d = L::load(tile.d + b * kPackedRows);
#pragma GCC unroll 8
    for (size_t t = 0; t < tokens; ++t) {
      const F scale = L::set1(x.scales[t * n_blocks + b]);
      I sum = sums[t];
      if constexpr (P::kBias != 0 && !(kWordSums<P, Bytes> && kSignedCodes<P>)) sum = L::sub(sum, min_sum(t));
      out[t] = L::fma(L::to_float(sum), L::mul(d, scale), out[t]);
      if constexpr (P::kHasMins)
        out[t] = L::fma(L::to_float(min_sum(t)), L::mul(L::load(tile.offset + b * kPackedRows), scale), out[t]);
    }
  }
  store_rows<tokens>(out, n_rows, y, ldy);
}

template <class C, size_t tokens>
TSUBU_INLINE void product(const Tile<C>& tile, size_t n_rows, const Int8Rows& x, float* y, size_t ldy, size_t n_cols) {
  if constexpr (C::kBlockLen == 256)
    super_product<C, tokens>(tile, n_rows, x, y, ldy, n_cols);
  else
    short_product<C, tokens>(tile, n_rows, x, y, ldy, n_cols);
}

template <class C>
void tile_product(const std::byte* bytes, size_t n_rows, const Int8Rows& x, size_t n_tokens, float* y, size_t ldy,
                  size_t n_cols) {
  const Tile<C> tile(const_cast<std::byte*>(bytes), n_cols);
  const auto from = [&](size_t t) __attribute__((always_inline)) {
    return Int8Rows{x.codes + t * n_cols, x.sums + t * (n_cols / 16), x.scales + t * (n_cols / kPackedUnit<C>)};
  };
  size_t t = 0;
  for (; t + kTileTokens <= n_tokens; t += kTileTokens)
    product<C, kTileTokens>(tile, n_rows, from(t), y + t * ldy, ldy, n_cols);
  for (; t < n_tokens; ++t) product<C, 1>(tile, n_rows, from(t), y + t * ldy, ldy, n_cols);
}

// Lane k % 16 of column k, then the fixed tree: gemm_nt's order.
template <bool brain, int rows>
TSUBU_INLINE void float_rows(const std::byte* bytes, size_t row_bytes, const float* x, float* y, size_t n_cols) {
  const auto load = [](const uint16_t* p) __attribute__((always_inline)) {
    if constexpr (brain) return L::load_bf16(p);
    else return L::load_f16(p);
  };
  const auto row = [&](int r) __attribute__((always_inline)) {
    return reinterpret_cast<const uint16_t*>(bytes + static_cast<size_t>(r) * row_bytes);
  };
  F acc[rows];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) acc[r] = L::zero();
  size_t k = 0;
  for (; k + kLanes <= n_cols; k += kLanes) {
    const F v = L::load(x + k);
    // The rows after these, in the order of their bytes: see SixteenRows::fetch.
    if constexpr (rows > 1) {
      const std::byte* next = bytes + rows * row_bytes + k * rows * sizeof(uint16_t);
#pragma GCC unroll 8
      for (size_t i = 0; i < rows * kLanes * sizeof(uint16_t); i += 64) __builtin_prefetch(next + i, 0, 2);
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) acc[r] = L::fma(load(row(r) + k), v, acc[r]);
  }
  if (k < n_cols) {
    float rest[kLanes] = {};
    for (size_t i = k; i < n_cols; ++i) rest[i - k] = x[i];
    for (int r = 0; r < rows; ++r) {
      uint16_t part[kLanes] = {};
      __builtin_memcpy(part, row(r) + k, (n_cols - k) * sizeof(uint16_t));
      acc[r] = L::fma(load(part), L::load(rest), acc[r]);
    }
  }
  for (int r = 0; r < rows; ++r) y[r] = L::hsum(acc[r]);
}

template <bool brain>
void float_dot_rows(const std::byte* bytes, size_t row_bytes, size_t n_rows, const float* x, float* y, size_t n_cols) {
  size_t r = 0;
  for (; r + 4 <= n_rows; r += 4) float_rows<brain, 4>(bytes + r * row_bytes, row_bytes, x, y + r, n_cols);
  for (; r < n_rows; ++r) float_rows<brain, 1>(bytes + r * row_bytes, row_bytes, x, y + r, n_cols);
}

template <class C>
void fill_type(PackedKernels& k, size_t index) {
  if constexpr (HasPackedForm<C>) {
    k.dot_rows[index] = dot_rows<C>;
    k.make_tile[index] = make_tile<C>;
    k.tile_product[index] = tile_product<C>;
  }
  if constexpr (requires { PackedForm<C>::kBrain; }) k.float_dot_rows[index] = float_dot_rows<PackedForm<C>::kBrain>;
}

}  // namespace

void fill_packed_kernels(PackedKernels& k) {
  k.encode_q8_0 = encode_q8_0;
  k.encode_q8_k = encode_q8_k;
  each_codec(CodecList{}, [&]<class C>(size_t index) { fill_type<C>(k, index); });
}

}  // namespace tsubu::TSUBU_ISA
