// Products of signed bytes, exact in 32 bits, and the rounding of floats to simulated formats (codec/number_format.h).
// Integer sums have no order, so every ISA gives the same numbers whatever its instructions.
#include "kernel/generic/vector_math.h"
#include "kernel/kernels.h"

namespace tsubu::TSUBU_ISA {

void fill_integer_kernels(Kernels& k);

namespace {

using B = Lanes::B;

#if defined(TSUBU_ISA_AVX512)
constexpr int kTileRows = 4, kTileTokens = 6;  // 24 accumulators of 32 registers
#elif defined(TSUBU_ISA_AVX2)
constexpr int kTileRows = 2, kTileTokens = 2;  // a value takes two of 16 registers
#else
constexpr int kTileRows = 2, kTileTokens = 2;
#endif
constexpr int kVectorRows = 2 * kTileRows;  // rows at once for a single token
constexpr size_t kBytes = Lanes::kBytes;
constexpr size_t kChunkRows = 64;  // rows whose sums are kept to take the bias out again

struct Matrices {
  const int8_t* w;
  const int8_t* x;
  int32_t* c;
  size_t ldw, ldx, ldc, n_cols;
};

// The first n < kBytes bytes at p and zeros.
struct Part {
  int8_t bytes[kBytes];
};
TSUBU_INLINE Part part_of(const int8_t* p, size_t n) {
  Part part;
  for (size_t i = 0; i < kBytes; ++i) part.bytes[i] = i < n ? p[i] : int8_t{0};
  return part;
}

TSUBU_INLINE int32_t sum_of(I acc) {
  int32_t lanes[kLanes];
  Lanes::store_i(lanes, acc);
  uint32_t sum = 0;
  for (int l = 0; l < kLanes; ++l) sum += static_cast<uint32_t>(lanes[l]);
  return static_cast<int32_t>(sum);
}

template <class L, int n>
TSUBU_INLINE void store_sums(int32_t* out, const I* acc) {
  int i = 0;
  if constexpr (requires { L::hsum4_i(out, acc[0], acc[0], acc[0], acc[0]); })
    for (; i + 4 <= n; i += 4) L::hsum4_i(out + i, acc[i], acc[i + 1], acc[i + 2], acc[i + 3]);
  for (; i < n; ++i) out[i] = sum_of(acc[i]);
}

// One step over kBytes columns: acc[t][r] += x[t] · w[r].
template <int rows, int tokens>
TSUBU_INLINE void step(I (&acc)[tokens][rows], const int8_t* w, size_t ldw, const int8_t* x, size_t ldx) {
  B wv[rows];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) wv[r] = Lanes::load_bytes(w + static_cast<size_t>(r) * ldw);
#pragma GCC unroll 8
  for (int t = 0; t < tokens; ++t) {
    const B xv = Lanes::load_left(x + static_cast<size_t>(t) * ldx);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) acc[t][r] = Lanes::add_products(acc[t][r], xv, wv[r]);
  }
}

// bias[r]: what the bias of x adds to every product with row r.
template <int rows, int tokens>
void tile(const Matrices& m, size_t row, size_t token, const int32_t* bias) {
  const int8_t* w = m.w + row * m.ldw;
  const int8_t* x = m.x + token * m.ldx;
  I acc[tokens][rows];
#pragma GCC unroll 8
  for (int t = 0; t < tokens; ++t)
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) acc[t][r] = Lanes::set1_i(0);
  const size_t whole = m.n_cols / kBytes * kBytes, rest = m.n_cols - whole;
  for (size_t k = 0; k < whole; k += kBytes) step<rows, tokens>(acc, w + k, m.ldw, x + k, m.ldx);
  if (rest > 0) {
    Part wp[rows], xp[tokens];
    for (int r = 0; r < rows; ++r) wp[r] = part_of(w + static_cast<size_t>(r) * m.ldw + whole, rest);
    for (int t = 0; t < tokens; ++t) xp[t] = part_of(x + static_cast<size_t>(t) * m.ldx + whole, rest);
    step<rows, tokens>(acc, wp[0].bytes, sizeof(Part), xp[0].bytes, sizeof(Part));
  }
#pragma GCC unroll 8
  for (int t = 0; t < tokens; ++t) {
    int32_t sums[rows];
    store_sums<Lanes, rows>(sums, acc[t]);
    int32_t* c = m.c + (token + static_cast<size_t>(t)) * m.ldc + row;
    for (int r = 0; r < rows; ++r)
      c[r] = static_cast<int32_t>(static_cast<uint32_t>(sums[r]) - static_cast<uint32_t>(bias[r]));
  }
}

template <int tokens>
void rows_of(const Matrices& m, size_t first, size_t last, size_t token, const int32_t* bias) {
  constexpr int rows = tokens == 1 ? kVectorRows : kTileRows;
  size_t r = first;
  for (; r + rows <= last; r += rows) tile<rows, tokens>(m, r, token, bias + (r - first));
  for (; r < last; ++r) tile<1, tokens>(m, r, token, bias + (r - first));
}

template <int tokens>
void last_tokens(const Matrices& m, size_t first, size_t last, size_t token, size_t n, const int32_t* bias) {
  if constexpr (tokens > 0) {
    if (n == static_cast<size_t>(tokens)) return rows_of<tokens>(m, first, last, token, bias);
    last_tokens<tokens - 1>(m, first, last, token, n, bias);
  }
}

// kLeftBias · the sum of a row's bytes: the product of the row with a left operand of zeros.
int32_t bias_of(const int8_t* w, size_t n_cols) {
  if constexpr (Lanes::kLeftBias == 0) {
    return 0;
  } else {
    const Part zeros = {};
    const B left = Lanes::load_left(zeros.bytes);
    I acc = Lanes::set1_i(0);
    size_t k = 0;
    for (; k + kBytes <= n_cols; k += kBytes) acc = Lanes::add_products(acc, left, Lanes::load_bytes(w + k));
    if (k < n_cols) acc = Lanes::add_products(acc, left, Lanes::load_bytes(part_of(w + k, n_cols - k).bytes));
    return sum_of(acc);
  }
}

void gemm_i8(const int8_t* w, size_t ldw, const int8_t* x, size_t ldx, int32_t* c, size_t ldc, size_t n_rows,
             size_t n_tokens, size_t n_cols) {
  const Matrices m = {w, x, c, ldw, ldx, ldc, n_cols};
  for (size_t first = 0; first < n_rows; first += kChunkRows) {
    const size_t last = first + kChunkRows < n_rows ? first + kChunkRows : n_rows;
    int32_t bias[kChunkRows];
    for (size_t r = first; r < last; ++r) bias[r - first] = bias_of(w + r * ldw, n_cols);
    size_t t = 0;
    for (; t + kTileTokens <= n_tokens; t += kTileTokens) rows_of<kTileTokens>(m, first, last, t, bias);
    last_tokens<kTileTokens - 1>(m, first, last, t, n_tokens - t, bias);
  }
}

void scale_sums(const int32_t* acc, const float* scales, float scale, float* y, size_t n, bool add) {
  const F common = Lanes::set1(scale);
  size_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    const F sum = Lanes::to_float(Lanes::load_i(acc + i)), s = Lanes::mul(Lanes::load(scales + i), common);
    Lanes::store(y + i, add ? Lanes::fma(sum, s, Lanes::load(y + i)) : Lanes::mul(sum, s));
  }
  for (; i < n; ++i) {
    const float s = scales[i] * scale, sum = static_cast<float>(acc[i]);
    y[i] = add ? __builtin_fmaf(sum, s, y[i]) : sum * s;
  }
}

float max_magnitude(const float* x, size_t n) {
  F largest = Lanes::zero(), poison = Lanes::zero();  // x · 0 is 0, or NaN when x is not finite
  const auto take = [&](F v) __attribute__((always_inline)) {
    largest = Lanes::max(largest, Lanes::abs(v));
    poison = Lanes::add(poison, Lanes::mul(v, Lanes::zero()));
  };
  size_t i = 0;
  for (; i + kStep <= n; i += kStep) take(Lanes::load(x + i));
  if (i < n) take(load_part(x + i, n - i, 0.0f));
  return Lanes::hmax(largest) + Lanes::hsum(poison);
}

TSUBU_INLINE F within(F x, F limit) { return Lanes::max(Lanes::min(x, limit), Lanes::neg(limit)); }

void encode_i8(const float* x, float scale, float limit, int8_t* codes, size_t n) {
  const F divisor = Lanes::set1(scale), most = Lanes::set1(limit);
  const auto code = [&](F v) __attribute__((always_inline)) {
    return Lanes::to_int(Lanes::round(within(Lanes::div(v, divisor), most)));
  };
  auto* out = reinterpret_cast<uint8_t*>(codes);
  size_t i = 0;
  for (; i + kStep <= n; i += kStep) Lanes::store_u8(out + i, code(Lanes::load(x + i)));
  if (i < n) {
    uint8_t part[kLanes];
    Lanes::store_u8(part, code(load_part(x + i, n - i, 0.0f)));
    for (size_t j = 0; i + j < n; ++j) out[i + j] = part[j];
  }
}

void round_to_rule(const float* x, float scale, const RoundingRule& rule, float* y, size_t n) {
  const F divisor = Lanes::set1(scale), most = Lanes::set1(rule.largest), lowest = Lanes::set1(rule.lowest_power);
  const F fraction = Lanes::set1(rule.step);
  const I exponent = Lanes::set1_i(0x7f800000);
  map(
      x, y, n, [&](F v) __attribute__((always_inline)) {
        const F value = within(Lanes::div(v, divisor), most);
        const F power = Lanes::max(Lanes::from_bits(Lanes::bit_and(Lanes::bits(value), exponent)), lowest);
        const F ulp = Lanes::mul(power, fraction);  // of powers of two: exact, as is the division
        return Lanes::mul(Lanes::mul(Lanes::round(Lanes::div(value, ulp)), ulp), divisor);
      });
}

}  // namespace

void fill_integer_kernels(Kernels& k) {
  k.gemm_i8 = gemm_i8;
  k.scale_sums = scale_sums;
  k.max_magnitude = max_magnitude;
  k.encode_i8 = encode_i8;
  k.round_to_rule = round_to_rule;
}

}  // namespace tsubu::TSUBU_ISA
