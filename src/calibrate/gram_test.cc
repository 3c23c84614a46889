// Gram matrices against a double reference, on odd sizes, and what they must not depend on.
#include "calibrate/gram.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/error.h"

namespace tsubu {
namespace {

std::vector<float> random_values(size_t n, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.3f, 1.0f);
  std::vector<float> r(n);
  for (float& v : r) v = normal(generator);
  return r;
}

struct Product {
  double exact = 0, magnitude = 0;
};

Product product(const std::vector<float>& x, size_t ldx, size_t i, const std::vector<float>& y, size_t ldy, size_t j,
                size_t n_tokens) {
  Product r;
  for (size_t t = 0; t < n_tokens; ++t) {
    const double p = static_cast<double>(x[t * ldx + i]) * y[t * ldy + j];
    r.exact += p;
    r.magnitude += std::abs(p);
  }
  return r;
}

// The bound stated in gram.h, plus the rounding of the result to f32.
double bound(const Product& p) {
  return static_cast<double>(kGramChunk) * 0x1p-24 * p.magnitude * 1.01 + std::abs(p.exact) * 0x1p-23;
}

TEST(GramAccumulator, SymmetricIsTheWholeGramMatrix) {
  ThreadPool pool(2);
  for (size_t n : {1, 15, 16, 17, 31, 32, 33, 48, 63, 65, 100, 129}) {
    for (size_t n_tokens : {1, 7, 255, 256, 257, 600}) {
      const size_t ldx = n + 3;
      const auto x = random_values(n_tokens * ldx, static_cast<uint32_t>(n));
      GramAccumulator g(n, n, true);
      g.add(x.data(), ldx, n_tokens, pool);
      EXPECT_EQ(g.n_tokens(), n_tokens);
      std::vector<float> out(n * n);
      g.finish(out);
      for (size_t i = 0; i < n; ++i) {
        for (size_t j = 0; j < n; ++j) {
          ASSERT_EQ(out[i * n + j], out[j * n + i]);
          const Product p = product(x, ldx, i, x, ldx, j, n_tokens);
          ASSERT_NEAR(out[i * n + j], p.exact, bound(p))
              << n << " columns, " << n_tokens << " tokens: " << i << "," << j;
        }
        std::vector<float> row(n - i);
        g.finish_row(i, row);
        ASSERT_EQ(row, std::vector<float>(out.begin() + static_cast<ptrdiff_t>(i * n + i),
                                          out.begin() + static_cast<ptrdiff_t>((i + 1) * n)));
      }
    }
  }
}

TEST(GramAccumulator, CrossProducts) {
  ThreadPool pool(2);
  for (size_t n : {1, 17, 40}) {
    for (size_t m : {1, 33, 70}) {
      const size_t n_tokens = 300;
      const auto x = random_values(n_tokens * n, 1), y = random_values(n_tokens * (m + 1), 2);
      GramAccumulator g(n, m, false);
      g.add(x.data(), n, y.data(), m + 1, n_tokens, pool);
      std::vector<float> out(n * m);
      g.finish(out);
      for (size_t i = 0; i < n; ++i)
        for (size_t j = 0; j < m; ++j) {
          const Product p = product(x, n, i, y, m + 1, j, n_tokens);
          ASSERT_NEAR(out[i * m + j], p.exact, bound(p));
        }
    }
  }
}

TEST(GramAccumulator, DoesNotDependOnThreadsAndAddsCalls) {
  const size_t n = 150, n_tokens = 700;
  const auto x = random_values(n_tokens * n, 5);
  std::vector<std::vector<double>> results;
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    GramAccumulator g(n, n, true);
    g.add(x.data(), n, 300, pool);
    g.add(x.data() + 300 * n, n, 400, pool);
    EXPECT_EQ(g.n_tokens(), n_tokens);
    results.emplace_back(g.sums().begin(), g.sums().end());
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

// Each factor is rounded to bfloat16 (relative 2^-9), then the sums of a chunk are f32.
double bf16_bound(const Product& p) {
  return (0x1p-8 * 1.01 + static_cast<double>(kBf16Chunk) * 0x1p-24) * p.magnitude + std::abs(p.exact) * 0x1p-23;
}

TEST(GramAccumulator, Bf16ProductsAreWithinTheirBoundInAnyCalls) {
  ThreadPool pool(2);
  for (size_t n : {1, 17, 40, 100}) {
    for (const bool symmetric : {true, false}) {
      const size_t m = symmetric ? n : n + 23, n_tokens = 2 * kBf16Chunk + 75;
      const auto x = random_values(n_tokens * n, 1), y = symmetric ? x : random_values(n_tokens * m, 2);
      GramAccumulator g(n, m, symmetric, nullptr, Products::kBf16);
      size_t begin = 0;
      for (size_t count : {size_t{1}, size_t{33}, kBf16Chunk, size_t{500}, n_tokens}) {
        count = std::min(count, n_tokens - begin);
        g.add(x.data() + begin * n, n, y.data() + begin * m, m, count, pool);
        begin += count;
      }
      g.flush(pool);
      EXPECT_EQ(g.n_tokens(), n_tokens);
      std::vector<float> out(n * m);
      g.finish(out);
      for (size_t i = 0; i < n; ++i)
        for (size_t j = 0; j < m; ++j) {
          const Product p = product(x, n, i, y, m, j, n_tokens);
          ASSERT_NEAR(out[i * m + j], p.exact, bf16_bound(p)) << n << " by " << m << ": " << i << "," << j;
        }
    }
  }
}

TEST(GramAccumulator, Bf16ProductsDoNotDependOnThreads) {
  const size_t n = 150, n_tokens = kBf16Chunk + 300;
  const auto x = random_values(n_tokens * n, 5);
  std::vector<std::vector<double>> results;
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    GramAccumulator g(n, n, true, nullptr, Products::kBf16);
    g.add(x.data(), n, n_tokens, pool);
    g.flush(pool);
    results.emplace_back(g.sums().begin(), g.sums().end());
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST(GramAccumulator, KeepsItsPrecisionOverManyChunks) {
  // In f32 alone 2^24 ones plus one are 2^24; here the last chunk still counts.
  ThreadPool pool(1);
  GramAccumulator g(1, 1, true);
  std::vector<double> sums(g.sums().size(), 0.0);
  sums[0] = 0x1p30;
  g.restore(sums, 1 << 20);
  const std::vector<float> ones(3, 1.0f);
  g.add(ones.data(), 1, 3, pool);
  EXPECT_EQ(g.sums()[0], 0x1p30 + 3);
}

TEST(GramAccumulator, SavedSumsGoOn) {
  const size_t n = 37;
  ThreadPool pool(2);
  const auto x = random_values(512 * n, 6);
  GramAccumulator whole(n, n, true), first(n, n, true), second(n, n, true);
  whole.add(x.data(), n, 256, pool);
  whole.add(x.data() + 256 * n, n, 256, pool);
  first.add(x.data(), n, 256, pool);
  second.restore(first.sums(), first.n_tokens());
  second.add(x.data() + 256 * n, n, 256, pool);
  EXPECT_EQ(std::vector<double>(whole.sums().begin(), whole.sums().end()),
            std::vector<double>(second.sums().begin(), second.sums().end()));
  EXPECT_THROW(second.restore(std::vector<double>(3), 1), Error);
  second.clear();
  EXPECT_EQ(second.n_tokens(), 0u);
  EXPECT_EQ(second.sums()[0], 0.0);
  EXPECT_THROW(GramAccumulator(3, 4, true), Error);
}

TEST(ColumnMoments, AreThoseOfTheColumns) {
  const size_t n = 300, n_tokens = 500;
  const auto x = random_values(n_tokens * n, 7);
  ThreadPool one(1), three(3);
  ColumnMoments a(n), b(n);
  a.add(x.data(), n, n_tokens, one);
  b.add(x.data(), n, n_tokens, three);
  for (size_t c = 0; c < n; ++c) {
    double sum = 0, squares = 0;
    float most = 0;
    for (size_t t = 0; t < n_tokens; ++t) {
      sum += static_cast<double>(x[t * n + c]);
      squares += static_cast<double>(x[t * n + c]) * x[t * n + c];
      most = std::max(most, std::abs(x[t * n + c]));
    }
    EXPECT_NEAR(a.sum()[c], sum, 1e-3);
    EXPECT_NEAR(a.squares()[c], squares, 2e-5 * squares);
    EXPECT_EQ(a.max_abs()[c], most);
    EXPECT_EQ(a.sum()[c], b.sum()[c]);
    EXPECT_EQ(a.squares()[c], b.squares()[c]);
  }
  EXPECT_EQ(a.n_tokens(), n_tokens);
}

}  // namespace
}  // namespace tsubu
