// Products of packed weights with many tokens of 8-bit activations on the tile unit: sums of signed or unsigned bytes, sixteen
// rows by sixteen tokens for each instruction. Integer sums and the order of floats are those of generic/packed.cc, so the
// bits are too.
//   Super-blocks: code · scale is an integer of two bytes, 256 · high + low, so that a block's sum is two products of bytes
//   without a step for each sub-block. Minimums meet the column sums as they lie in memory: their lowest bytes unsigned, the
//   next ones signed.
//   Blocks of 32: code - bias is a signed byte; each product of 32 columns meets its scales in registers.
#include <immintrin.h>

#include "kernel/byte_lanes_avx512.h"
#include "kernel/packed_kernels.h"
#include "kernel/packed_parts.h"

namespace tsubu::amx {

void fill_packed_kernels(PackedKernels& k);

namespace {

using Bytes = Avx512Bytes;
using L = Bytes::L;
using F = L::F;
using I = L::I;
using V = Bytes::V;

constexpr size_t kSide = 16;                // tokens of a tile, and rows of weights
constexpr size_t kPlane = 1024;             // bytes of a tile
constexpr size_t kTokens = 2 * kSide;       // two tiles of tokens side by side
constexpr size_t kMostTokens = 4 * kTokens;  // that pass a block of weights while it is in the first cache
static_assert(kSide == kPackedRows);

// Tiles 0 … 3 are sums: of the first tokens (0, 1) and of the second ones (2, 3), with low and high bytes; 4 and 5 are tokens,
// 6 and 7 weights.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Compilers do not know that tile instructions read memory: what was stored before must be there.
TSUBU_INLINE void settle(const void* stored) { __asm__ volatile("" : : "r"(stored) : "memory"); }

void load_config(const TileConfig& config) {
  settle(&config);
  _tile_loadconfig(&config);
}

// n tokens; depth: bytes of a row of weights that one instruction takes.
void configure(size_t n, size_t depth) {
  const auto first = static_cast<uint8_t>(n < kSide ? n : kSide), second = static_cast<uint8_t>(n < kSide ? 0 : n - kSide);
  const auto d = static_cast<uint8_t>(depth / 4);
  const uint8_t rows[8] = {first, first, second, second, first, second, d, d};
  TileConfig config;
  for (size_t i = 0; i < 8; ++i) {
    config.rows[i] = rows[i];
    config.row_bytes[i] = static_cast<uint16_t>(rows[i] == 0 ? 0 : i == 4 || i == 5 ? depth : 64);
  }
  load_config(config);
}

// Scaled codes of these types fit into a byte.
template <class C>
constexpr bool fits_byte() {
  return __is_same(C, Q2_K) || __is_same(C, TQ1_0) || __is_same(C, TQ2_0);
}

// Parts of a tile of sixteen rows.
template <class C>
struct Tile {
  using P = PackedForm<C>;
  static constexpr size_t kUnit = kPackedUnit<C>;
  static constexpr bool kSuper = kUnit == 256;
  static constexpr size_t kPlanes = kSuper ? (fits_byte<C>() ? 1 : 2) : 1;
  static constexpr size_t kStep = kSuper ? 64 : 32;                      // columns of an instruction
  static constexpr size_t kCodeBytes = kUnit * kSide * kPlanes;          // of a unit: [step][plane][column / 4][row][4]
  static constexpr size_t kMinBytes = kSuper && P::kHasMins ? kPlane : 0;  // of a unit: [sum][row][4], the minimum first
  std::byte* codes;
  std::byte* mins;
  float* d;       // [unit][row]
  float* offset;

  TSUBU_INLINE Tile(std::byte* bytes, size_t n_cols) {
    const size_t n = n_cols / kUnit;
    codes = bytes;
    mins = codes + n * kCodeBytes;
    d = reinterpret_cast<float*>(mins + n * kMinBytes);
    offset = d + n * kSide;
  }
};

// Sixteen rows of 64 bytes to 64 columns of sixteen rows, four columns together.
TSUBU_INLINE void put(const uint32_t (*rows)[kSide], std::byte* to) {
  L::transpose(rows[0], kSide, reinterpret_cast<uint32_t*>(to), kSide);
}

// Words of the scales of 32 codes from 32 h on of chunk c.
template <int c, int h>
TSUBU_INLINE __m512i words_of(__m256i scales) {
  const __m512i all = _mm512_zextsi256_si512(scales);
  constexpr short a = 4 * c + 2 * h, b = a + 1;
  const __m512i index = _mm512_inserti64x4(_mm512_set1_epi16(a), _mm256_set1_epi16(b), 1);
  return _mm512_permutexvar_epi16(index, all);
}

template <class C, int c>
TSUBU_INLINE void scaled_chunk(const typename C::Block& block, __m256i scales, uint32_t* low, uint32_t* high) {
  using P = PackedForm<C>;
  const V codes = P::template codes<Bytes, c>(block);
  const auto half = [&](__m256i bytes, __m512i scale) __attribute__((always_inline)) {
    const __m512i code = _mm512_sub_epi16(_mm512_cvtepu8_epi16(bytes), _mm512_set1_epi16(P::kBias));
    return _mm512_mullo_epi16(code, scale);
  };
  const __m512i a = half(_mm512_castsi512_si256(codes), words_of<c, 0>(scales));
  const __m512i b = half(_mm512_extracti64x4_epi64(codes, 1), words_of<c, 1>(scales));
  const auto store = [](uint32_t* to, __m512i x, __m512i y) __attribute__((always_inline)) {
    _mm512_storeu_si512(to, _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(x)), _mm512_cvtepi16_epi8(y), 1));
  };
  store(low, a, b);
  if constexpr (Tile<C>::kPlanes == 2) store(high, _mm512_srai_epi16(a, 8), _mm512_srai_epi16(b, 8));
}

template <class C>
void make_super(const std::byte* rows, size_t row_bytes, size_t n_rows, size_t n_cols, std::byte* bytes) {
  using P = PackedForm<C>;
  using T = Tile<C>;
  const T tile(bytes, n_cols);
  for (size_t b = 0; b < n_cols / 256; ++b) {
    alignas(64) uint32_t low[4][kSide][kSide], high[4][kSide][kSide];
    for (size_t r = 0; r < kSide; ++r) {
      // Rows that are not there repeat the last one.
      const auto& block = reinterpret_cast<const typename C::Block*>(rows + (r < n_rows ? r : n_rows - 1) * row_bytes)[b];
      tile.d[b * kSide + r] = d_of<P, Bytes>(block);
      if constexpr (P::kHasMins) tile.offset[b * kSide + r] = Bytes::f16(P::offset(block));
      I scale, min = L::set1_i(0);
      P::template scales<Bytes>(block, scale, min);
      const __m256i words = _mm512_cvtepi32_epi16(scale);
      scaled_chunk<C, 0>(block, words, low[0][r], high[0][r]);
      scaled_chunk<C, 1>(block, words, low[1][r], high[1][r]);
      scaled_chunk<C, 2>(block, words, low[2][r], high[2][r]);
      scaled_chunk<C, 3>(block, words, low[3][r], high[3][r]);
      if constexpr (P::kHasMins) {
        alignas(64) int32_t of_16[16];
        L::store_i(of_16, min);
        auto* to = reinterpret_cast<int32_t*>(tile.mins + b * T::kMinBytes);
        for (size_t s = 0; s < 16; ++s) to[s * kSide + r] = of_16[s];
      }
    }
    std::byte* to = tile.codes + b * T::kCodeBytes;
    for (size_t j = 0; j < 4; ++j) {
      put(low[j], to + j * T::kPlanes * kPlane);
      if constexpr (T::kPlanes == 2) put(high[j], to + (2 * j + 1) * kPlane);
    }
  }
}

template <class C>
void make_short(const std::byte* rows, size_t row_bytes, size_t n_rows, size_t n_cols, std::byte* bytes) {
  using P = PackedForm<C>;
  constexpr size_t kParts = kPackedParts<C>;
  const Tile<C> tile(bytes, n_cols);
  const size_t n = n_cols / 32;
  for (size_t b = 0; b < n; b += 2) {
    const size_t next = b + 1 < n ? b + 1 : b;
    alignas(64) uint32_t codes[kSide][kSide], both[kSide][kSide];
    for (size_t r = 0; r < kSide; ++r) {
      const auto* row = reinterpret_cast<const typename C::Block*>(rows + (r < n_rows ? r : n_rows - 1) * row_bytes);
      for (size_t i = b; i <= next; ++i) {
        tile.d[i * kSide + r] = d_of<P, Bytes>(row[i / kParts]);
        if constexpr (P::kHasMins) tile.offset[i * kSide + r] = Bytes::f16(P::offset(row[i / kParts]));
      }
      const V v = short_codes<C, Bytes>(row, b, next);
      Bytes::store(codes[r], _mm512_sub_epi8(v, Bytes::set1(P::kBias)));
    }
    put(codes, reinterpret_cast<std::byte*>(both));
    __builtin_memcpy(tile.codes + b * Tile<C>::kCodeBytes, both, (next - b + 1) * Tile<C>::kCodeBytes);
  }
}

// Products of one unit: tiles 0 … 3 to `sums`, [tile][token][row].
template <class C, bool two>
TSUBU_INLINE void super_sums(const Tile<C>& tile, size_t b, size_t step, const int8_t* x, size_t n_cols) {
  using T = Tile<C>;
  const std::byte* w = tile.codes + b * T::kCodeBytes + step * T::kPlanes * kPlane;
  const int8_t* columns = x + 256 * b + 64 * step;
  const auto stride = static_cast<long>(n_cols);
  _tile_loadd(6, w, 64);
  _tile_loadd(4, columns, stride);
  if constexpr (T::kPlanes == 1) _tile_dpbssd(0, 4, 6);
  else _tile_dpbsud(0, 4, 6);
  if constexpr (two) {
    _tile_loadd(5, columns + kSide * n_cols, stride);
    if constexpr (T::kPlanes == 1) _tile_dpbssd(2, 5, 6);
    else _tile_dpbsud(2, 5, 6);
  }
  if constexpr (T::kPlanes == 2) {
    _tile_loadd(7, w + kPlane, 64);
    _tile_dpbssd(1, 4, 7);
    if constexpr (two) _tile_dpbssd(3, 5, 7);
  }
}

template <bool two>
TSUBU_INLINE void zero() {
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (two) {
    _tile_zero(2);
    _tile_zero(3);
  }
}

// To [plane][token][row].
template <bool two, bool planes>
TSUBU_INLINE void keep(int32_t* sums) {
  _tile_stored(0, sums, 64);
  if constexpr (planes) _tile_stored(1, sums + kTokens * kSide, 64);
  if constexpr (two) {
    _tile_stored(2, sums + kSide * kSide, 64);
    if constexpr (planes) _tile_stored(3, sums + (kTokens + kSide) * kSide, 64);
  }
}

// Sums of a unit that wait for their scales, and where they go.
struct Pending {
  alignas(64) int32_t codes[2 * kTokens * kSide];
  alignas(64) int32_t mins[2 * kTokens * kSide];
};

// Tokens [first, last) of a group: out[token][row] += scaled sums of unit b.
template <class C>
TSUBU_INLINE void finish(const Tile<C>& tile, size_t b, const Pending& p, const float* scales, size_t n_units, float* out,
                         size_t first, size_t last) {
  using T = Tile<C>;
  const F d = L::load(tile.d + b * kSide);
  F offset = L::zero();
  if constexpr (T::P::kHasMins) offset = L::load(tile.offset + b * kSide);
  for (size_t t = first; t < last; ++t) {
    const F scale = L::set1(scales[t * n_units + b]);
    I sum = L::load_i(p.codes + t * kSide);
    if constexpr (T::kPlanes == 2) sum = L::add(sum, L::template shift_left<8>(L::load_i(p.codes + (kTokens + t) * kSide)));
    F y = L::fma(L::to_float(sum), L::mul(d, scale), L::load(out + t * kSide));
    if constexpr (T::P::kHasMins) {
      const I min = L::add(L::load_i(p.mins + t * kSide), L::template shift_left<8>(L::load_i(p.mins + (kTokens + t) * kSide)));
      y = L::fma(L::to_float(min), L::mul(offset, scale), y);
    }
    L::store(out + t * kSide, y);
  }
}

// n tokens in groups of `group`; out is [token][row]. The sums of one group meet their scales while the next one's are made.
template <class C, bool two>
void super_groups(const Tile<C>& tile, const Int8Rows& x, size_t n, size_t group, float* out, size_t n_cols) {
  using T = Tile<C>;
  const size_t n_units = n_cols / 256;
  Pending pending[2];
  size_t last_unit = 0, last_token = 0, turn = 0;
  bool waits = false;
  for (size_t b = 0; b < n_units; ++b) {
    alignas(64) std::byte second[kPlane];  // minimums in the second byte of each sum
    if constexpr (T::P::kHasMins) {
      const std::byte* mins = tile.mins + b * T::kMinBytes;
      for (size_t i = 0; i < kPlane; i += 64) Bytes::store(second + i, _mm512_slli_epi32(Bytes::load(mins + i), 8));
      settle(second);
    }
    for (size_t t = 0; t < n; t += group) {
      Pending &now = pending[turn], &before = pending[1 - turn];
      const auto some = [&](size_t part) __attribute__((always_inline)) {
        if (!waits) return;
        finish<C>(tile, last_unit, before, x.scales + last_token * n_units, n_units, out + last_token * kSide, group * part / 4,
                  group * (part + 1) / 4);
      };
      const int8_t* codes = x.codes + t * n_cols;
      zero<two>();
      for (size_t j = 0; j < 4; ++j) {
        super_sums<C, two>(tile, b, j, codes, n_cols);
        some(j);
      }
      keep<two, T::kPlanes == 2>(now.codes);
      if constexpr (T::P::kHasMins) {
        const auto stride = static_cast<long>(n_cols / 16 * sizeof(int32_t));
        const int32_t* sums = x.sums + t * (n_cols / 16) + 16 * b;
        zero<two>();
        _tile_loadd(6, tile.mins + b * T::kMinBytes, 64);
        _tile_loadd(7, second, 64);
        _tile_loadd(4, sums, stride);
        _tile_dpbuud(0, 4, 6);
        _tile_dpbsud(1, 4, 7);
        if constexpr (two) {
          _tile_loadd(5, sums + kSide * (n_cols / 16), stride);
          _tile_dpbuud(2, 5, 6);
          _tile_dpbsud(3, 5, 7);
        }
        keep<two, true>(now.mins);
      }
      last_unit = b, last_token = t, turn = 1 - turn, waits = true;
    }
  }
  if (waits)
    finish<C>(tile, last_unit, pending[1 - turn], x.scales + last_token * n_units, n_units, out + last_token * kSide, 0, group);
}

// At most sixteen tokens, whose results stay in registers; units two by two, so that products do not wait for each other.
template <class C, size_t most>
void short_group(const Tile<C>& tile, const Int8Rows& x, size_t n, float* out, size_t n_cols) {
  using T = Tile<C>;
  const size_t n_units = n_cols / 32;
  const auto stride = static_cast<long>(n_cols);
  alignas(64) int32_t sums[4][kSide * kSide];
  F y[most];
#pragma GCC unroll 16
  for (size_t t = 0; t < most; ++t) y[t] = L::zero();
  const auto product = [&](size_t b) __attribute__((always_inline)) {
    if (b >= n_units) return;
    if (b % 2 == 0) {
      _tile_zero(0);
      _tile_loadd(4, x.codes + 32 * b, stride);
      _tile_loadd(6, tile.codes + b * T::kCodeBytes, 64);
      _tile_dpbssd(0, 4, 6);
      _tile_stored(0, sums[b % 4], 64);
    } else {
      _tile_zero(1);
      _tile_loadd(5, x.codes + 32 * b, stride);
      _tile_loadd(7, tile.codes + b * T::kCodeBytes, 64);
      _tile_dpbssd(1, 5, 7);
      _tile_stored(1, sums[b % 4], 64);
    }
  };
  constexpr size_t kAhead = 3;
  for (size_t b = 0; b < kAhead; ++b) product(b);
  for (size_t b = 0; b < n_units; ++b) {
    product(b + kAhead);
    const F d = L::load(tile.d + b * kSide);
    F offset = L::zero();
    if constexpr (T::P::kHasMins) offset = L::load(tile.offset + b * kSide);
#pragma GCC unroll 16
    for (size_t t = 0; t < most; ++t) {
      if (most < kSide && t >= n) break;
      const F scale = L::set1(x.scales[t * n_units + b]);
      y[t] = L::fma(L::to_float(L::load_i(sums[b % 4] + t * kSide)), L::mul(d, scale), y[t]);
      if constexpr (T::P::kHasMins) {
        const int32_t* of_16 = x.sums + t * 2 * n_units + 2 * b;
        y[t] = L::fma(L::to_float(L::set1_i(of_16[0] + of_16[1])), L::mul(offset, scale), y[t]);
      }
    }
  }
#pragma GCC unroll 16
  for (size_t t = 0; t < most; ++t) L::store(out + t * kSide, y[t]);
}

template <class C>
Int8Rows from(const Int8Rows& x, size_t t, size_t n_cols) {
  return {x.codes + t * n_cols, x.sums + t * (n_cols / 16), x.scales + t * (n_cols / kPackedUnit<C>)};
}

// y[t · ldy + r] = out[t][r].
void store_rows(const float* out, size_t n_tokens, size_t n_rows, float* y, size_t ldy) {
  for (size_t t = 0; t < n_tokens; ++t) {
    const float* from = out + t * kSide;
    if (n_rows == kSide) L::store(y + t * ldy, L::load(from));
    else for (size_t r = 0; r < n_rows; ++r) y[t * ldy + r] = from[r];
  }
}

template <bool two>
struct Tiles {
  static constexpr bool value = two;
};

template <class C>
void tile_product(const std::byte* bytes, size_t n_rows, const Int8Rows& x, size_t n_tokens, float* y, size_t ldy,
                  size_t n_cols) {
  using T = Tile<C>;
  const T tile(const_cast<std::byte*>(bytes), n_cols);
  alignas(64) float out[kMostTokens * kSide];
  const auto super = [&](size_t t, size_t n, size_t group, auto two) __attribute__((always_inline)) {
    for (size_t i = 0; i < n * kSide; i += kSide) L::store(out + i, L::zero());
    configure(group, 64);
    super_groups<C, decltype(two)::value>(tile, from<C>(x, t, n_cols), n, group, out, n_cols);
    store_rows(out, n, n_rows, y + t * ldy, ldy);
  };
  size_t t = 0;
  if constexpr (T::kSuper) {
    while (n_tokens - t >= kTokens) {
      const size_t groups = (n_tokens - t) / kTokens, n = (groups < 4 ? groups : 4) * kTokens;
      super(t, n, kTokens, Tiles<true>{});
      t += n;
    }
    if (n_tokens - t > kSide) {
      super(t, n_tokens - t, n_tokens - t, Tiles<true>{});
    } else if (t < n_tokens) {
      super(t, n_tokens - t, n_tokens - t, Tiles<false>{});
    }
  } else {
    const auto group = [&](size_t n) __attribute__((always_inline)) {
      const TileConfig config = [&] {
        TileConfig c;
        for (size_t i : {0, 1, 4, 5, 6, 7}) {
          c.rows[i] = static_cast<uint8_t>(i >= 6 ? 8 : n);
          c.row_bytes[i] = i == 4 || i == 5 ? 32 : 64;
        }
        return c;
      }();
      load_config(config);
    };
    if (n_tokens >= kSide) {
      group(kSide);
      for (; t + kSide <= n_tokens; t += kSide) {
        short_group<C, kSide>(tile, from<C>(x, t, n_cols), kSide, out, n_cols);
        store_rows(out, kSide, n_rows, y + t * ldy, ldy);
      }
    }
    while (t < n_tokens) {
      const size_t n = n_tokens - t < 8 ? n_tokens - t : 8;
      group(n);
      short_group<C, 8>(tile, from<C>(x, t, n_cols), n, out, n_cols);
      store_rows(out, n, n_rows, y + t * ldy, ldy);
      t += n;
    }
  }
  _tile_release();
}

template <class C>
void fill_type(PackedKernels& k, size_t index) {
  if constexpr (HasPackedForm<C>) {
    if constexpr (Tile<C>::kSuper) k.make_tile[index] = make_super<C>;
    else k.make_tile[index] = make_short<C>;
    k.tile_product[index] = tile_product<C>;
  }
}

}  // namespace

void fill_packed_kernels(PackedKernels& k) {
  k.tile_tokens = kMostTokens;
  each_codec(CodecList{}, [&]<class C>(size_t index) { fill_type<C>(k, index); });
}

}  // namespace tsubu::amx
