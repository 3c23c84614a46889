// The 95 % interval of a mean over chunks covers the truth 95 times in 100: simulated texts whose tokens are alike within a
// chunk, heavy tails as divergences have them. Bounds are those that the number of repetitions allows (± 4 standard
// errors), less what few chunks are known to cost a percentile bootstrap. Numbers: bench/results/2026-11-26-certify.md.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <random>

#include "evaluate/statistics.h"

namespace tsubu {
namespace {

constexpr uint32_t kResamples = 1000;  // as certify's
constexpr int kTokens = 128;           // scored of a chunk

// Divergences exp(1.5 z + u), u shared by a chunk's tokens; the mean is exp((1.5² + spread²) / 2).
double coverage(int n_chunks, double spread, int n_repeats) {
  std::mt19937_64 random(static_cast<uint64_t>(n_chunks));
  std::normal_distribution<double> normal(0, 1);
  const double truth = std::exp((1.5 * 1.5 + spread * spread) / 2);
  int n_covered = 0;
  for (int i = 0; i < n_repeats; ++i) {
    std::vector<BlockSums> blocks(static_cast<size_t>(n_chunks));
    for (BlockSums& b : blocks) {
      const double shared = spread * normal(random);
      b.n = kTokens;
      for (int t = 0; t < kTokens; ++t) b.kld += std::exp(1.5 * normal(random) + shared);
    }
    const Interval ci = block_bootstrap(blocks, kResamples, static_cast<uint64_t>(i), [](const BlockSums& s) { return s.kld / s.n; });
    n_covered += ci.low <= truth && truth <= ci.high;
  }
  return static_cast<double>(n_covered) / n_repeats;
}

TEST(Coverage, FortyChunksAndMore) {
  const int repeats = std::getenv("TSUBU_COVERAGE") ? 4000 : 400;
  const double error = std::sqrt(0.95 * 0.05 / repeats);
  for (const double spread : {0.0, 0.5}) {
    const double found = coverage(40, spread, repeats);
    RecordProperty(spread > 0 ? "alike" : "independent", std::to_string(found));
    std::printf("40 chunks, spread %.1f: %.4f\n", spread, found);
    EXPECT_GE(found, 0.935 - 4 * error);
    EXPECT_LE(found, 0.95 + 4 * error);
  }
}

TEST(Coverage, TenChunksCostSomePoints) {
  const int repeats = std::getenv("TSUBU_COVERAGE") ? 4000 : 400;
  const double error = std::sqrt(0.95 * 0.05 / repeats);
  for (const double spread : {0.0, 0.5}) {
    const double found = coverage(10, spread, repeats);
    std::printf("10 chunks, spread %.1f: %.4f\n", spread, found);
    EXPECT_GE(found, 0.91 - 4 * error);
    EXPECT_LE(found, 0.95 + 4 * error);
  }
}

}  // namespace
}  // namespace tsubu
