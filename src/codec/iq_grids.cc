// Expands the bitmaps of iq_grids.inc into lookup tables while compiling.
#include "codec/iq_grids.h"

#include <cstddef>

namespace tsubu {
namespace {

#include "codec/iq_grids.inc"

constexpr int8_t kTernaryLevels[] = {-1, 0, 1};
constexpr int8_t kIq2Levels[] = {8, 25, 43};
constexpr int8_t kIq3xxsLevels[] = {4, 12, 20, 28, 36, 44, 52, 62};
constexpr int8_t kIq3sLevels[] = {1, 3, 5, 7, 9, 11, 13, 15};

template <class Entry, int n_points, size_t n_words, size_t n_levels>
consteval Grid<Entry, n_points> expand(const uint64_t (&members)[n_words], const int8_t (&levels)[n_levels]) {
  Grid<Entry, n_points> grid{};
  int index = 0;
  for (size_t code = 0; code < 64 * n_words; ++code) {
    if ((members[code / 64] >> (code % 64) & 1) == 0) continue;
    size_t digits = code;
    for (size_t i = 0; i < sizeof(Entry); ++i, digits /= n_levels)
      grid.points[index] |= static_cast<Entry>(static_cast<uint8_t>(levels[digits % n_levels])) << (8 * i);
    ++index;
  }
  if (index != n_points) throw "the bitmap has another number of points";
  return grid;
}

template <int dims, int n_points, size_t n_words, size_t n_levels>
consteval GridIndex<dims, n_levels, n_points> arrange(const uint64_t (&members)[n_words],
                                                      const int8_t (&levels)[n_levels]) {
  GridIndex<dims, n_levels, n_points> grid{};
  for (size_t l = 0; l < n_levels; ++l) grid.level[l] = levels[l];
  int index = 0;
  size_t half = 0;
  for (size_t code = 0; code < 64 * n_words; ++code) {
    if ((members[code / 64] >> (code % 64) & 1) == 0) continue;
    while (half < code / grid.kHalfCodes) grid.start[++half] = static_cast<uint16_t>(index);
    grid.first[index++] = static_cast<uint8_t>(code % grid.kHalfCodes);
  }
  while (half < grid.kHalfCodes) grid.start[++half] = static_cast<uint16_t>(index);
  return grid;
}

}  // namespace

constinit const Grid<uint64_t, 2048> kIq1sGrid = expand<uint64_t, 2048>(kIq1SMembers, kTernaryLevels);
constinit const Grid<uint64_t, 256> kIq2xxsGrid = expand<uint64_t, 256>(kIq2XxsMembers, kIq2Levels);
constinit const Grid<uint64_t, 512> kIq2xsGrid = expand<uint64_t, 512>(kIq2XsMembers, kIq2Levels);
constinit const Grid<uint64_t, 1024> kIq2sGrid = expand<uint64_t, 1024>(kIq2SMembers, kIq2Levels);
constinit const Grid<uint32_t, 256> kIq3xxsGrid = expand<uint32_t, 256>(kIq3XxsMembers, kIq3xxsLevels);
constinit const Grid<uint32_t, 512> kIq3sGrid = expand<uint32_t, 512>(kIq3SMembers, kIq3sLevels);

constinit const GridIndex<8, 3, 2048> kIq1sIndex = arrange<8, 2048>(kIq1SMembers, kTernaryLevels);
constinit const GridIndex<8, 3, 256> kIq2xxsIndex = arrange<8, 256>(kIq2XxsMembers, kIq2Levels);
constinit const GridIndex<8, 3, 512> kIq2xsIndex = arrange<8, 512>(kIq2XsMembers, kIq2Levels);
constinit const GridIndex<8, 3, 1024> kIq2sIndex = arrange<8, 1024>(kIq2SMembers, kIq2Levels);
constinit const GridIndex<4, 8, 256> kIq3xxsIndex = arrange<4, 256>(kIq3XxsMembers, kIq3xxsLevels);
constinit const GridIndex<4, 8, 512> kIq3sIndex = arrange<4, 512>(kIq3SMembers, kIq3sLevels);

}  // namespace tsubu
