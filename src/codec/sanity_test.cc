#include "codec/sanity.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

namespace tsubu {
namespace {

bool decodes_finite(const TypeInfo& type, std::span<const std::byte> block) {
  std::vector<float> values(type.block_len);
  type.decode(block.data(), values.data(), values.size());
  for (const float value : values)
    if (!std::isfinite(value)) return false;
  return true;
}

class Sanity : public testing::TestWithParam<size_t> {
 protected:
  const TypeInfo& type() const { return types()[GetParam()]; }
  bool is_integer() const { return type().name.starts_with('I') && type().block_len == 1; }
  // All-zero blocks are valid in every format.
  std::vector<std::byte> zeros(size_t n_blocks) const { return std::vector<std::byte>(n_blocks * type().block_bytes); }
};

TEST_P(Sanity, ZerosAreValid) {
  for (const size_t n_blocks : {0, 1, 3, 5000}) EXPECT_EQ(first_invalid_block(type(), zeros(n_blocks)), std::nullopt);
}

// Wherever a 16-bit infinity or NaN pattern makes decoding not finite, the block is refused, and it is the right block.
TEST_P(Sanity, WhateverDecodesToNoNumberIsFound) {
  const size_t n_blocks = 4096 / type().block_len + 3;  // past the first chunk
  std::vector<std::byte> data = zeros(n_blocks);
  size_t n_refused = 0;
  for (const uint16_t pattern : {0x7c00, 0x7e00, 0xfc00, 0x7f80, 0xffc1, 0xffff}) {
    for (size_t offset = 0; offset < type().block_bytes; ++offset) {
      const size_t position = (offset * 37 + pattern) % n_blocks;
      const std::span<std::byte> block(data.data() + position * type().block_bytes, type().block_bytes);
      std::memcpy(block.data() + offset, &pattern, std::min<size_t>(2, type().block_bytes - offset));
      const std::optional<size_t> found = first_invalid_block(type(), data);
      if (!decodes_finite(type(), block)) {
        EXPECT_EQ(found, position) << type().name << " offset " << offset;
      }
      if (found) {
        EXPECT_EQ(*found, position) << type().name;
        ++n_refused;
      }
      std::fill(block.begin(), block.end(), std::byte{0});
    }
  }
  std::fill(data.end() - type().block_bytes, data.end(), std::byte{0xff});
  if (first_invalid_block(type(), data) == n_blocks - 1) ++n_refused;
  EXPECT_EQ(n_refused == 0, is_integer()) << type().name;
}

TEST_P(Sanity, TheFirstOfSeveralIsReported) {
  std::vector<std::byte> data = zeros(300);
  const size_t bytes = type().block_bytes;
  std::fill(data.begin() + static_cast<ptrdiff_t>(7 * bytes), data.begin() + static_cast<ptrdiff_t>(8 * bytes),
            std::byte{0xff});
  if (is_integer()) {
    EXPECT_EQ(first_invalid_block(type(), data), std::nullopt);
    return;
  }
  std::fill(data.begin() + static_cast<ptrdiff_t>(200 * bytes), data.end(), std::byte{0xff});
  EXPECT_EQ(first_invalid_block(type(), data), 7u);
  data.resize(data.size() - 1);  // a broken tail is not read
  EXPECT_EQ(first_invalid_block(type(), data), 7u);
}

INSTANTIATE_TEST_SUITE_P(EveryType, Sanity, testing::Range<size_t>(0, types().size()),
                         [](const auto& instance) { return std::string(types()[instance.param].name); });

void expect_first(const char* name, const std::vector<uint8_t>& bytes, std::optional<size_t> expected) {
  EXPECT_EQ(first_invalid_block(type_named(name), std::as_bytes(std::span(bytes))), expected) << name;
}

TEST(SanityFacts, FloatsAtTheirLimits) {
  expect_first("F16", {0xff, 0x7b, 0x01, 0x00, 0x00, 0x7c}, 2);  // 65504, least subnormal, infinity
  expect_first("BF16", {0x7f, 0x7f, 0x00, 0x80, 0xc0, 0x7f}, 2);
  expect_first("F32", {0xff, 0xff, 0x7f, 0x7f, 0x00, 0x00, 0x80, 0xff}, 1);
  const uint64_t too_large = std::bit_cast<uint64_t>(1e39);
  std::vector<uint8_t> doubles(16);
  std::memcpy(doubles.data() + 8, &too_large, 8);
  expect_first("F64", doubles, 1);
}

TEST(SanityFacts, ScalesThatOnlyTheSpecificationCallsNaN) {
  std::vector<uint8_t> mxfp4(2 * 17);
  mxfp4[17] = 254;
  expect_first("MXFP4", mxfp4, std::nullopt);
  mxfp4[17] = 255;  // decodes to zeros here, for its codes are zero
  expect_first("MXFP4", mxfp4, 1);
  std::vector<uint8_t> nvfp4(2 * 36);
  nvfp4[36 + 3] = 0x7e;
  expect_first("NVFP4", nvfp4, std::nullopt);
  nvfp4[36 + 3] = 0x7f;
  expect_first("NVFP4", nvfp4, 1);
}

}  // namespace
}  // namespace tsubu
