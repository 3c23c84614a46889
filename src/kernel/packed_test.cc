// Products of packed weights with 8-bit activations: the rule of the rounding, the product of the decoded rows within
// the roundings of its sums, the same bits from every ISA and from both ways, for every type that has them.
#include <gtest/gtest.h>

#include <cstring>

#include "codec/grid.h"
#include "codec/type_info.h"
#include "kernel/kernel_test_util.h"
#include "kernel/packed_kernels.h"

namespace tsubu {
namespace {

using namespace kernel_test;

struct Inputs {
  std::vector<int8_t> codes;
  std::vector<int32_t> sums;
  std::vector<float> scales, rounded;
  Int8Rows rows() const { return {codes.data(), sums.data(), scales.data()}; }
};

Inputs encode(const PackedKernels& k, const float* x, size_t n_tokens, size_t n, size_t block) {
  Inputs r;
  r.codes.resize(n_tokens * n);
  r.sums.resize(n_tokens * n / 16);
  r.scales.resize(n_tokens * n / block);
  r.rounded.resize(n_tokens * n);
  for (size_t t = 0; t < n_tokens; ++t) {
    (block == 256 ? k.encode_q8_k : k.encode_q8_0)(x + t * n, n, r.codes.data() + t * n, r.sums.data() + t * n / 16,
                                                   r.scales.data() + t * n / block);
    (block == 256 ? scalar().round_q8_k : scalar().round_q8_0)(x + t * n, r.rounded.data() + t * n, n);
  }
  return r;
}

class Packed : public ::testing::TestWithParam<const Kernels*> {};

TEST_P(Packed, CodesAreTheRoundedActivations) {
  const PackedKernels& k = packed_kernels_named(GetParam()->isa);
  const Floats x = random_floats(1024, 1, 3);
  for (size_t block : {size_t{32}, size_t{256}}) {
    const Inputs in = encode(k, x.data(), 1, 1024, block);
    for (size_t i = 0; i < 1024; ++i) EXPECT_EQ(static_cast<float>(in.codes[i]) * in.scales[i / block], in.rounded[i]);
    for (size_t i = 0; i < 1024; i += 16) {
      int32_t sum = 0;
      for (size_t j = i; j < i + 16; ++j) sum += in.codes[j];
      EXPECT_EQ(in.sums[i / 16], sum);
    }
  }
}

TEST_P(Packed, ProductsAreThoseOfTheDecodedRows) {
  const PackedKernels& k = packed_kernels_named(GetParam()->isa);
  const PackedKernels& reference = packed_kernels_named("scalar");
  constexpr size_t kRows = 19, kTokens = 11;
  for (const TypeInfo& type : types()) {
    if (!k.dot_rows[type.index]) continue;
    const size_t n = 3 * type.block_len;  // an odd number of blocks
    const size_t unit = type.block_len == 256 ? 256 : 32;
    const size_t row_bytes = n / type.block_len * type.block_bytes;
    const Floats w = random_floats(kRows * n, 0, 5), x = random_floats(kTokens * n, 0, 6);
    std::vector<std::byte> rows(kRows * row_bytes);
    for (size_t r = 0; r < kRows; ++r) type.encode(w.data() + r * n, nullptr, rows.data() + r * row_bytes, n);
    std::vector<float> decoded(kRows * n);
    type.decode(rows.data(), decoded.data(), kRows * n);
    const Inputs in = encode(k, x.data(), kTokens, n, unit);
    std::vector<float> tiled(kTokens * kRows);
    std::vector<std::byte> bytes(packed_tile_bytes(n) + 64);
    std::byte* tile = bytes.data() + (64 - reinterpret_cast<uintptr_t>(bytes.data()) % 64) % 64;
    for (size_t r = 0; r < kRows; r += kPackedRows) {
      const size_t some = std::min(kPackedRows, kRows - r);
      k.make_tile[type.index](rows.data() + r * row_bytes, row_bytes, some, n, tile);
      k.tile_product[type.index](tile, some, in.rows(), kTokens, tiled.data() + r, kRows, n);
    }
    for (size_t t = 0; t < kTokens; ++t) {
      float got[kRows], want[kRows];
      const Int8Rows token = {in.codes.data() + t * n, in.sums.data() + t * n / 16,
                              in.scales.data() + t * n / unit};
      k.dot_rows[type.index](rows.data(), row_bytes, kRows, token, got, n);
      reference.dot_rows[type.index](rows.data(), row_bytes, kRows, token, want, n);
      for (size_t r = 0; r < kRows; ++r) {
        EXPECT_TRUE(same_bits(got[r], want[r])) << type.name << " row " << r << ": " << got[r] << ", " << want[r];
        EXPECT_TRUE(same_bits(tiled[t * kRows + r], got[r])) << type.name << " tile, row " << r;
        double sum = 0, magnitude = 0;
        for (size_t i = 0; i < n; ++i) {
          const double p = static_cast<double>(decoded[r * n + i]) * in.rounded[t * n + i];
          sum += p;
          magnitude += std::abs(p);
        }
        // Decoding rounds scale, product and difference (the parts of a difference can be four times it), a block's
        // product and scale and every fma once more.
        EXPECT_NEAR(got[r], sum, (magnitude + 1e-3) * 16 * gamma(8 + n / unit)) << type.name << " row " << r;
      }
    }
  }
}

// Groups of tokens, and what is left of them, of every size that a tile product knows.
TEST_P(Packed, TilesTakeAnyNumberOfTokens) {
  const PackedKernels& k = packed_kernels_named(GetParam()->isa);
  constexpr size_t kRows = 16, kMost = 180;
  for (const TypeInfo& type : types()) {
    if (!k.dot_rows[type.index]) continue;
    const size_t n = 2 * type.block_len, unit = type.block_len == 256 ? 256 : 32;
    const size_t row_bytes = n / type.block_len * type.block_bytes;
    const Floats w = random_floats(kRows * n, 0, 15), x = random_floats(kMost * n, 0, 16);
    std::vector<std::byte> rows(kRows * row_bytes);
    for (size_t r = 0; r < kRows; ++r) GetParam()->encode[type.index](w.data() + r * n, nullptr, rows.data() + r * row_bytes, n);
    const Inputs in = encode(k, x.data(), kMost, n, unit);
    std::vector<float> want(kMost * kRows);
    for (size_t t = 0; t < kMost; ++t)
      k.dot_rows[type.index](rows.data(), row_bytes, kRows,
                             {in.codes.data() + t * n, in.sums.data() + t * n / 16, in.scales.data() + t * n / unit},
                             want.data() + t * kRows, n);
    std::vector<std::byte> bytes(packed_tile_bytes(n) + 64);
    std::byte* tile = bytes.data() + (64 - reinterpret_cast<uintptr_t>(bytes.data()) % 64) % 64;
    k.make_tile[type.index](rows.data(), row_bytes, kRows, n, tile);
    for (const size_t n_tokens : {4, 16, 17, 31, 32, 48, 50, 129, 180}) {
      std::vector<float> got(n_tokens * kRows + 1, -1.0f);
      k.tile_product[type.index](tile, kRows, in.rows(), n_tokens, got.data(), kRows, n);
      for (size_t i = 0; i < n_tokens * kRows; ++i)
        ASSERT_TRUE(same_bits(got[i], want[i])) << type.name << ", token " << i / kRows << " of " << n_tokens << ", row " << i % kRows;
      EXPECT_EQ(got.back(), -1.0f) << type.name << ", " << n_tokens << " tokens";
    }
  }
}

// The largest sums that there are: the highest codes under the highest scales and minimums, activations at ±127.
TEST_P(Packed, ExtremeCodesAndActivationsDoNotOverflow) {
  const PackedKernels& k = packed_kernels_named(GetParam()->isa);
  const PackedKernels& reference = packed_kernels_named("scalar");
  size_t n_types = 0;
  for (const TypeInfo& type : types()) {
    if (!k.dot_rows[type.index] || !type.grid) continue;
    ++n_types;
    const GridSpec& spec = type.grid->spec;
    const size_t n = 2 * type.block_len, unit = type.block_len == 256 ? 256 : 32, row_bytes = 2 * type.block_bytes;
    constexpr size_t kTokens = 4;  // all up, all down, down in the second half, alternating
    Floats x = random_floats(kTokens * n, 0, 1);
    for (size_t i = 0; i < n; ++i) {
      x[i] = 1;
      x[n + i] = -1;
      x[2 * n + i] = i < n / 2 ? 1 : -1;
      x[3 * n + i] = i % 2 == 0 ? 1 : -1;
    }
    const Inputs in = encode(k, x.data(), kTokens, n, unit);
    std::vector<std::byte> rows(kPackedRows * row_bytes), bytes(packed_tile_bytes(n) + 64);
    for (const bool highest : {false, true}) {
      GridBlock block = {};
      block.d = block.dmin = Half::of(0.01f);
      for (int s = 0; s < spec.n_sub; ++s) {
        block.scale[s] = static_cast<int16_t>(highest ? spec.scale_high : spec.scale_low);
        block.min[s] = static_cast<int16_t>(spec.min_high);
      }
      for (int i = 0; i < spec.block_len; ++i) block.codes[i] = static_cast<uint8_t>(highest ? spec.n_levels - 1 : 0);
      for (size_t b = 0; b < 2 * kPackedRows; ++b) type.grid->pack(block, rows.data() + b * type.block_bytes);
      std::byte* tile = bytes.data() + (64 - reinterpret_cast<uintptr_t>(bytes.data()) % 64) % 64;
      k.make_tile[type.index](rows.data(), row_bytes, kPackedRows, n, tile);
      float tiled[kTokens * kPackedRows], want[kPackedRows], got[kPackedRows];
      k.tile_product[type.index](tile, kPackedRows, in.rows(), kTokens, tiled, kPackedRows, n);
      for (size_t t = 0; t < kTokens; ++t) {
        const Int8Rows token = {in.codes.data() + t * n, in.sums.data() + t * n / 16, in.scales.data() + t * n / unit};
        reference.dot_rows[type.index](rows.data(), row_bytes, kPackedRows, token, want, n);
        k.dot_rows[type.index](rows.data(), row_bytes, kPackedRows, token, got, n);
        for (size_t r = 0; r < kPackedRows; ++r) {
          EXPECT_TRUE(same_bits(got[r], want[r])) << type.name << " token " << t << ": " << got[r] << ", " << want[r];
          EXPECT_TRUE(same_bits(tiled[t * kPackedRows + r], want[r])) << type.name << " tile, token " << t << ": " << tiled[t * kPackedRows + r];
        }
      }
    }
  }
  EXPECT_GE(n_types, 12u);
}

TEST_P(Packed, PlainHalvesHaveTheBitsOfDecodedProducts) {
  const PackedKernels& k = packed_kernels_named(GetParam()->isa);
  for (const TypeInfo& type : types()) {
    if (!k.float_dot_rows[type.index]) continue;
    for (size_t n : {size_t{16}, size_t{45}, size_t{256}}) {
      constexpr size_t kRows = 7;
      const Floats w = random_floats(kRows * n, 0, 8), x = random_floats(n, 1, 9);
      std::vector<std::byte> rows(kRows * n * type.block_bytes);
      type.encode(w.data(), nullptr, rows.data(), kRows * n);
      std::vector<float> decoded(kRows * n);
      type.decode(rows.data(), decoded.data(), kRows * n);
      float got[kRows];
      k.float_dot_rows[type.index](rows.data(), n * type.block_bytes, kRows, x.data(), got, n);
      for (size_t r = 0; r < kRows; ++r)
        EXPECT_TRUE(same_bits(got[r], scalar().dot(decoded.data() + r * n, x.data(), n))) << type.name << " " << n;
    }
  }
}

std::string isa_name(const ::testing::TestParamInfo<const Kernels*>& info) { return std::string(info.param->isa); }
INSTANTIATE_TEST_SUITE_P(Isa, Packed, ::testing::ValuesIn(runnable_kernels().begin(), runnable_kernels().end()),
                         isa_name);

}  // namespace
}  // namespace tsubu
