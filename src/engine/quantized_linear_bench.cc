// Speed of linears in f32 and in int8 × int8, alternating, so that both see the same machine. One line a shape:
// rows × columns, tokens, billions of multiply-adds a second of each (median of the rounds), and their ratio.
// The int8 time includes the rounding of the input.   quantized_linear_bench [ROUNDS [THREADS]]
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "engine/quantized_linear.h"
#include "engine/random_model.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

double seconds_of(const std::function<void()>& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

void measure(size_t n_rows, size_t n_cols, size_t n_tokens, size_t rounds, ThreadPool& pool) {
  RandomModel model(RandomModelOptions{});
  model.add("w", {n_rows, n_cols}, "F32", 0.1f);
  model.add("x", {n_tokens, n_cols}, "F32", 1.0f);
  std::vector<float> x(n_tokens * n_cols), y(n_tokens * n_rows);
  model.tensor("x").read_rows(0, n_tokens, x.data());
  const Linear floats(model.tensor("w"), nullptr);
  Numerics numerics;
  numerics.weights = parse_scheme("int8:channel", SchemeUse::kWeights);
  numerics.activations = parse_scheme("int8:token", SchemeUse::kActivations);
  const QuantizedLinear integers(floats, "w", numerics, pool);
  QuantizedInputs inputs;
  std::vector<QuantizedScratch> scratch(static_cast<size_t>(pool.size()));
  std::vector<AlignedVector<float>> tiles(static_cast<size_t>(pool.size()));
  const double products = static_cast<double>(n_rows) * static_cast<double>(n_cols) * static_cast<double>(n_tokens);
  const auto repeats = static_cast<size_t>(std::max(1.0, 2e8 / products));
  std::vector<double> float_rates, integer_rates;
  for (size_t round = 0; round <= rounds; ++round) {
    const double a = seconds_of([&] {
      for (size_t i = 0; i < repeats; ++i) floats.run(x.data(), y.data(), n_tokens, tiles, pool);
    });
    const double b = seconds_of([&] {
      for (size_t i = 0; i < repeats; ++i) {
        inputs.assign(x.data(), n_tokens, n_cols, numerics, 0, true, pool);
        integers.run(inputs, y.data(), scratch, pool);
      }
    });
    if (round == 0) continue;  // warms the caches
    float_rates.push_back(products * static_cast<double>(repeats) / a / 1e9);
    integer_rates.push_back(products * static_cast<double>(repeats) / b / 1e9);
  }
  const double f = median(float_rates), i = median(integer_rates);
  fmt::print("{:>6} x {:<6} {:>4} tokens  f32 {:8.1f}  int8 {:8.1f}  ratio {:.2f}\n", n_rows, n_cols, n_tokens, f, i,
             i / f);
}

}  // namespace
}  // namespace tsubu

int main(int argc, char** argv) {
  const size_t rounds = argc > 1 ? static_cast<size_t>(std::atoi(argv[1])) : 11;
  tsubu::ThreadPool pool(argc > 2 ? std::atoi(argv[2]) : 1);
  fmt::print("kernels {}, {} threads, GMAC/s, median of {} alternating rounds\n", tsubu::kernels().isa, pool.size(),
             rounds);
  for (const auto& [rows, cols] :
       {std::pair<size_t, size_t>{512, 512}, {1536, 512}, {512, 1536}, {2048, 2048}, {5632, 2048}})
    for (const size_t tokens : {1, 16, 128, 512}) tsubu::measure(rows, cols, tokens, rounds, pool);
  return 0;
}
