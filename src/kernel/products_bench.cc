// Speed of the products on one core beside the core's own limit, measured in the same run: billions of multiply-adds a
// second (best of the rounds; the machines are shared) and the share of the limit.   products_bench [ROUNDS]
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <random>
#include <vector>

#include "base/aligned.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

int n_rounds = 7;

AlignedVector<float> random_floats(size_t n) {
  std::mt19937 random(static_cast<unsigned>(n));
  std::normal_distribution<float> normal;
  AlignedVector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

double best_rate(double products, const std::function<void()>& f) {
  double best = 0;
  for (int round = 0; round < n_rounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    f();
    best = std::max(best, products / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best * 1e-9;
}

// What one core does when nothing but fma stands in its way: products of a tile that stays in the first cache.
double limit() {
  constexpr size_t kRows = 4, kTokens = 6, kCols = 512, kRepeats = 4000;
  const AlignedVector<float> w = random_floats(kRows * kCols), x = random_floats(kTokens * kCols);
  AlignedVector<float> c(kRows * kTokens);
  return best_rate(double(kRows * kTokens * kCols * kRepeats), [&] {
    for (size_t i = 0; i < kRepeats; ++i)
      kernels().gemm_nt(w.data(), kCols, x.data(), kCols, c.data(), kRows, kRows, kTokens, kCols);
  });
}

void run() {
  const double most = limit();
  fmt::print("{}: a tile in the first cache {:.1f} G/s\n", kernels().isa, most);
  const auto line = [&](const std::string& what, double rate) { fmt::print("{:<44} {:7.1f} G/s {:5.2f}\n", what, rate, rate / most); };
  constexpr size_t kShapes[][3] = {{64, 2048, 512}, {64, 5632, 512}, {256, 2048, 64}, {256, 5632, 64},
                                   {2048, 2048, 64}, {8, 5632, 512},  {64, 512, 256},  {64, 768, 256}, {64, 2000, 64}};
  for (const auto& [rows, cols, tokens] : kShapes) {
    const AlignedVector<float> w = random_floats(rows * cols), x = random_floats(tokens * cols);
    AlignedVector<float> c(rows * tokens);
    const size_t repeats = std::max<size_t>(1, 400'000'000 / (rows * cols * tokens));
    line(fmt::format("gemm_nt rows {} columns {} tokens {}", rows, cols, tokens),
         best_rate(double(rows * cols * tokens * repeats), [&] {
           for (size_t i = 0; i < repeats; ++i)
             kernels().gemm_nt(w.data(), cols, x.data(), cols, c.data(), rows, rows, tokens, cols);
         }));
  }
  for (const size_t columns : {512, 2048, 5632}) {
    constexpr size_t kTokens = 256, kStrip = 32;
    const AlignedVector<float> x = random_floats(kTokens * columns);
    std::vector<double> g(kStrip * columns);
    line(fmt::format("gram {} × {} columns, tokens {}", kStrip, columns, kTokens),
         best_rate(double(kStrip * columns * kTokens * 4), [&] {
           for (int i = 0; i < 4; ++i)
             kernels().gram(x.data(), kStrip / 16, x.data(), columns / 16, kTokens, g.data(), columns);
         }));
  }
  for (const auto& [rows, cols, tokens] : {std::array<size_t, 3>{64, 2048, 512}, {128, 2048, 512}, {128, 5632, 512}, {128, 1024, 128}}) {
    const size_t pairs = cols / 2;
    AlignedVector<uint32_t> a(tokens * (pairs + 16), 0x3c003c00), b(rows * pairs, 0x3c003c00);
    AlignedVector<float> c(tokens * rows);
    line(fmt::format("products_bf16 {} columns of b, {} of {} deep", rows, tokens, cols),
         best_rate(double(rows * cols * tokens * 8), [&] {
           for (int i = 0; i < 8; ++i)
             kernels().products_bf16(a.data(), pairs + 16, b.data(), rows / 16, pairs, tokens, c.data(), rows);
         }));
  }
  AlignedVector<uint32_t> words(16 * 1024), turned(16 * 1024);
  line("transpose_pairs (words)", best_rate(16 * 1024 * 100.0, [&] {
         for (int i = 0; i < 100; ++i)
           for (size_t j = 0; j < 1024; j += 16)
             kernels().transpose_pairs(words.data() + j, 1024, turned.data() + 16 * j, 16);
       }));
  constexpr size_t kSide = 64, kMatrix = 2048;
  std::vector<double> a(kMatrix * kMatrix, 1e-3), b(kSide * kMatrix, 1e-3);
  line("subtract_product of doubles, blocks of 64", best_rate(double(kSide * kMatrix * kMatrix), [&] {
         for (size_t i = 0; i < kMatrix; i += kSide)
           for (size_t j = 0; j < kMatrix; j += kSide)
             kernels().subtract_product(a.data() + i * kMatrix + j, kMatrix, a.data() + i * kMatrix, kMatrix,
                                        b.data() + j, kMatrix, kSide, kSide, kSide);
       }));
}

}  // namespace
}  // namespace tsubu

int main(int argc, char** argv) {
  if (argc > 1) tsubu::n_rounds = std::max(1, std::atoi(argv[1]));
  tsubu::run();
}
