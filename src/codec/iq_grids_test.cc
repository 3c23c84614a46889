#include "codec/iq_grids.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <set>
#include <vector>

#include "codec/bytes.h"

namespace tsubu {
namespace {

template <class Entry, int n_points>
std::vector<int8_t> coordinates(const Grid<Entry, n_points>& grid) {
  std::vector<int8_t> values(sizeof grid);
  std::memcpy(values.data(), &grid, sizeof grid);
  return values;
}

uint64_t fnv1a(const std::vector<int8_t>& values) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const int8_t value : values) hash = (hash ^ static_cast<uint8_t>(value)) * 0x100000001b3u;
  return hash;
}

// The hashes are of the reference package's points: tests/make_iq_grids.py prints them.
TEST(IqGrids, HoldTheReferencePoints) {
  EXPECT_EQ(fnv1a(coordinates(kIq1sGrid)), 0x6703ed863501ae2eu);
  EXPECT_EQ(fnv1a(coordinates(kIq2xxsGrid)), 0xbb4ee025b5ac6e8eu);
  EXPECT_EQ(fnv1a(coordinates(kIq2xsGrid)), 0xc9b1ee61e79909bdu);
  EXPECT_EQ(fnv1a(coordinates(kIq2sGrid)), 0x123edd38a3b62b90u);
  EXPECT_EQ(fnv1a(coordinates(kIq3xxsGrid)), 0xdfa5dc83d6a155d5u);
  EXPECT_EQ(fnv1a(coordinates(kIq3sGrid)), 0xfa37020c25b44829u);
}

TEST(IqGrids, UseTheLevelsOfTheirTable) {
  const auto levels = [](const auto& grid) {
    const std::vector<int8_t> values = coordinates(grid);
    return std::set<int8_t>(values.begin(), values.end());
  };
  EXPECT_EQ(levels(kIq1sGrid), (std::set<int8_t>{-1, 0, 1}));
  EXPECT_EQ(levels(kIq2xxsGrid), (std::set<int8_t>{8, 25, 43}));
  EXPECT_EQ(levels(kIq2xsGrid), (std::set<int8_t>{8, 25, 43}));
  EXPECT_EQ(levels(kIq2sGrid), (std::set<int8_t>{8, 25, 43}));
  EXPECT_EQ(levels(kIq3xxsGrid), (std::set<int8_t>{4, 12, 20, 28, 36, 44, 52, 62}));
  EXPECT_EQ(levels(kIq3sGrid), (std::set<int8_t>{1, 3, 5, 7, 9, 11, 13, 15}));
}

TEST(IqGrids, EvenSignsHaveAnEvenNumberOfMinuses) {
  for (uint32_t stored = 0; stored < 128; ++stored) {
    EXPECT_EQ(even_signs(stored) & 127, stored);
    EXPECT_EQ(std::popcount(even_signs(stored)) % 2, 0) << stored;
    EXPECT_LT(even_signs(stored), 256u);
  }
}

TEST(CodecBytes, WithSignsNegatesExactlyTheMarkedBytes) {
  constexpr uint64_t kMagnitudes[] = {0x0101010101010101u, 0x7f7f7f7f7f7f7f7fu, 0x3e082b190f010704u};
  for (const uint64_t magnitudes : kMagnitudes) {
    for (uint32_t signs = 0; signs < 256; ++signs) {
      const uint64_t result = with_signs(magnitudes, signs);
      for (int i = 0; i < 8; ++i) {
        const int before = static_cast<int8_t>(magnitudes >> (8 * i));
        EXPECT_EQ(static_cast<int8_t>(result >> (8 * i)), signs >> i & 1 ? -before : before) << signs << " byte " << i;
      }
      EXPECT_EQ(result, with_signs(magnitudes, signs | 0xabcd00u)) << "only the low eight bits count";
    }
  }
}

TEST(CodecBytes, SpreadCrumbsTakesEveryPairInItsPlace) {
  for (uint32_t word = 0; word < 65536; ++word) {
    const uint64_t result = spread_crumbs(word);
    for (int i = 0; i < 8; ++i) ASSERT_EQ(result >> (8 * i) & 255, word >> (2 * i) & 3) << word << " pair " << i;
  }
}

TEST(CodecBytes, ReadsAreLittleEndian) {
  const uint8_t bytes[8] = {0x01, 0x02, 0x03, 0x04, 0x00, 0x00, 0x80, 0xbf};
  EXPECT_EQ(read_u16(bytes), 0x0201u);
  EXPECT_EQ(read_u32(bytes), 0x04030201u);
  EXPECT_EQ(read_u64(bytes), 0xbf80000004030201u);
  EXPECT_EQ(read_f32(bytes + 4), -1.0f);
  EXPECT_EQ(nibble(bytes + 6, 0), 0u);
  EXPECT_EQ(nibble(bytes + 6, 1), 8u);
  EXPECT_EQ(nibble(bytes + 6, 2), 15u);
}

}  // namespace
}  // namespace tsubu
