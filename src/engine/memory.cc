#include "engine/memory.h"

#include <algorithm>

#include "engine/program.h"

namespace tsubu {
namespace {

constexpr uint64_t kPanel = 16, kPanelsAnItem = 8;  // of bfloat16 products: engine/linear.cc

uint64_t round_up(uint64_t n, uint64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

}  // namespace

uint64_t predicted_engine_bytes(const Model& model, const EngineOptions& options, size_t n_tokens, int n_threads) {
  const Program program = make_program(model);
  const auto threads = static_cast<uint64_t>(std::max(1, n_threads));
  const uint64_t n = n_tokens;
  uint64_t floats = 0, tile = 0, worker = 0, inputs = 0, expert_in = 0, expert_out = 0, pairs = 0;
  for (const size_t width : program.buffer_widths) floats += n * width;
  for (const RopeSpec& rope : model.graph().ropes) floats += 2 * n * rope.inverse_frequencies.size();
  for (const Step& step : program.steps) {
    floats += step.weight.size() + step.bias.size();
    if (!is_linear(*step.op)) continue;
    const ModelTensor& weight = model.tensor(step.op->weight);
    const uint64_t n_cols = weight.n_cols(), n_rows = weight.n_rows() / weight.n_matrices();
    tile = std::max<uint64_t>(tile, max_tile_rows(n_cols, n_rows) * n_cols);
    inputs = std::max(inputs, n_cols);
    if (step.experts) {
      expert_in = std::max(expert_in, n_cols);
      expert_out = std::max(expert_out, n_rows);
    }
    const uint64_t n_pairs = round_up((n_cols + 1) / 2, kPanel);
    if (options.bf16_products)
      pairs = std::max(pairs, n * (n_pairs + kPanel) + threads * (kPanel * n_cols + (1 + kPanelsAnItem) * kPanel * n_pairs));
  }
  for (const CacheShape& cache : program.caches) {
    floats += cache.n_kv_heads * (n * cache.head_dim + round_up(n, kPanel) * cache.value_dim) + 2 * kPanel;
    for (const Step& step : program.steps) {
      if (step.op->kind != OpKind::kAttention) continue;
      const AttentionShape& s = step.attention;
      worker = std::max<uint64_t>(worker, AttentionScratch::worker_floats(s, n));
    }
  }
  // Inputs rounded in a scheme, of a linear and of an expert, with a scale for each value at worst.
  if (options.numerics.activations) floats += 2 * (2 * n * inputs + threads * inputs) + threads * tile;
  floats += threads * (tile + worker) + n * (expert_in + expert_out) + pairs;
  return floats * sizeof(float);
}

}  // namespace tsubu
