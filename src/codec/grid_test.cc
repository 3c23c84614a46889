// The grid form of a block: unpacking any bytes and packing them again gives the same bytes' values, and the grid's
// formula is the decoder's, float for float.
#include "codec/grid.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "codec/type_info.h"

namespace tsubu {
namespace {

std::vector<TypeInfo> grid_types() {
  std::vector<TypeInfo> r;
  for (const TypeInfo& type : types())
    if (type.grid) r.push_back(type);
  return r;
}

class EveryGrid : public testing::TestWithParam<TypeInfo> {};

// A block of random codes and integers with scales of ordinary size.
GridBlock random_block(const GridSpec& spec, std::mt19937& random) {
  GridBlock block = {};
  std::uniform_real_distribution<float> real(-2, 2);
  block.d = Half::of(real(random));
  block.dmin = Half::of(spec.has_offset() ? real(random) : 0);
  for (int s = 0; s < spec.n_sub; ++s) {
    block.scale[s] = static_cast<int16_t>(std::uniform_int_distribution<int>(spec.scale_low, spec.scale_high)(random));
    block.min[s] = static_cast<int16_t>(std::uniform_int_distribution<int>(spec.min_low, spec.min_high)(random));
  }
  for (int i = 0; i < spec.block_len; ++i)
    block.codes[i] = static_cast<uint8_t>(random() % static_cast<unsigned>(spec.n_levels));
  return block;
}

TEST_P(EveryGrid, PacksAndUnpacks) {
  const TypeInfo& type = GetParam();
  const GridSpec& spec = type.grid->spec;
  EXPECT_EQ(static_cast<uint32_t>(spec.block_len), type.block_len);
  EXPECT_EQ(spec.n_sub * spec.sub_len, spec.block_len);
  std::mt19937 random(7);
  for (int repeat = 0; repeat < 200; ++repeat) {
    const GridBlock block = random_block(spec, random);
    std::vector<std::byte> bytes(type.block_bytes);
    type.grid->pack(block, bytes.data());
    GridBlock again = {};
    type.grid->unpack(bytes.data(), again);
    EXPECT_EQ(again.d.bits(), block.d.bits());
    if (spec.has_offset()) {
      EXPECT_EQ(again.dmin.bits(), block.dmin.bits());
    }
    for (int s = 0; s < spec.n_sub; ++s) {
      EXPECT_EQ(again.scale[s], block.scale[s]) << s;
      EXPECT_EQ(again.min[s], block.min[s]) << s;
    }
    for (int i = 0; i < spec.block_len; ++i) ASSERT_EQ(again.codes[i], block.codes[i]) << i;

    std::vector<float> decoded(type.block_len);
    type.decode(bytes.data(), decoded.data(), decoded.size());
    for (int i = 0; i < spec.block_len; ++i) {
      const int s = i / spec.sub_len;
      const float factor = block.d.value() * static_cast<float>(block.scale[s]);
      const float offset = block.dmin.value() * static_cast<float>(block.min[s]);
      ASSERT_EQ(decoded[static_cast<size_t>(i)], factor * spec.levels[block.codes[i]] - offset) << i;
    }
  }
}

TEST_P(EveryGrid, EncodedBlocksSurvive) {
  const TypeInfo& type = GetParam();
  std::mt19937 random(8);
  std::normal_distribution<float> normal;
  std::vector<float> x(type.block_len);
  for (float& v : x) v = normal(random);
  std::vector<std::byte> bytes(type.block_bytes), again(type.block_bytes);
  type.encode(x.data(), nullptr, bytes.data(), x.size());
  GridBlock block = {};
  type.grid->unpack(bytes.data(), block);
  type.grid->pack(block, again.data());
  EXPECT_EQ(bytes, again);
}

INSTANTIATE_TEST_SUITE_P(Types, EveryGrid, testing::ValuesIn(grid_types()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace tsubu
