#include "evaluate/input_magnitudes.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "engine/engine.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

// Bins of magnitudes by the upper half of their bits: 8 exponent bits, 7 mantissa bits.
constexpr size_t kBins = 1 << 15;
constexpr int kBinShift = 16;

class Magnitudes : public LinearObserver {
 public:
  explicit Magnitudes(bool with_bins) : with_bins_(with_bins) {}

  void on_linear_input(const Op& op, const float* x, size_t n_tokens, size_t n_cols) override {
    // Linears that read one value share what is found of it.
    Input& input = inputs_[op.inputs[0]];
    names_[op.weight] = op.inputs[0];
    if (input.reader.empty()) input.reader = op.weight;
    if (input.reader != op.weight) return;
    const size_t n = n_tokens * n_cols;
    const float largest = kernels().max_magnitude(x, n);
    if (!std::isfinite(largest))
      fail(ExitCode::kNumeric, "the input of {} is not finite on the calibration text: the model is damaged",
           op.weight);
    input.largest = std::max(input.largest, largest);
    if (!with_bins_) return;
    input.bins.resize(kBins);
    for (size_t i = 0; i < n; ++i) ++input.bins[(std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu) >> kBinShift];
  }

  void on_expert_input(const Op& op, size_t, const float* x, size_t n_tokens, size_t n_cols) override {
    if (n_tokens > 0) on_linear_input(op, x, n_tokens, n_cols);
  }

  std::map<std::string, float> result(double percentile) const {
    std::map<std::string, float> magnitudes;
    for (const auto& [name, value] : names_) magnitudes[name] = magnitude(inputs_.at(value), percentile);
    return magnitudes;
  }

 private:
  struct Input {
    std::string reader;  // the linear that is watched
    float largest = 0;
    std::vector<uint64_t> bins;
  };

  static float magnitude(const Input& input, double percentile) {
    if (input.bins.empty()) return input.largest;
    uint64_t total = 0, below = 0;
    for (const uint64_t n : input.bins) total += n;
    const double wanted = percentile / 100 * static_cast<double>(total);
    size_t bin = 0;
    while (bin + 1 < kBins && static_cast<double>(below + input.bins[bin]) < wanted) below += input.bins[bin++];
    // The upper edge of the bin; the largest value when the bin holds it.
    return std::min(input.largest, std::bit_cast<float>(static_cast<uint32_t>(bin + 1) << kBinShift));
  }

  bool with_bins_;
  std::map<ValueId, Input> inputs_;
  std::map<std::string, ValueId> names_;
};

}  // namespace

std::map<std::string, float> input_magnitudes(const Model& model, std::span<const TokenId> tokens, size_t context,
                                              double percentile, ThreadPool& pool) {
  const size_t n_chunks = tokens.size() / context;
  if (n_chunks == 0)
    fail(ExitCode::kUsage, "the calibration text has {} tokens, fewer than one chunk of {}: give a longer one",
         tokens.size(), context);
  Magnitudes observer(percentile < 100);
  const auto engine = Engine::make(model, pool, {.observer = &observer});
  const auto session = engine->new_session(context);
  std::vector<float> logits(context * engine->n_vocab());
  Progress progress("calibrate", n_chunks * context, "tokens");
  for (size_t chunk = 0; chunk < n_chunks; ++chunk) {
    throw_if_interrupted();
    session->truncate(0);
    engine->forward(*session, tokens.subspan(chunk * context, context), context, logits);
    progress.advance(context);
  }
  progress.finish();
  return observer.result(percentile);
}

}  // namespace tsubu
