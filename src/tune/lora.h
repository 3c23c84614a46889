// Low-rank adapters on a frozen model: for each linear chosen, W + alpha/r · B A with A (r, n_in) and B (n_out, r) in f32 while W
// stays as its file has it (floats, a k-quant, NF4 …) and is decoded a tile at a time, the addition on top, whenever it is
// multiplied. Cross entropy of the targets; gradients of A and B from the inputs and output gradients of each linear
// (gradient/backward.h): with u = x Aᵀ and v = g B, ∂B = s gᵀ u and ∂A = s vᵀ x. AdamW, gradient clipped by its norm, warm-up
// and cosine. A starts Kaiming-uniform (within ±1/√n_in) and B at zero, or both from the rounding error of the base (LoftQ with
// one iteration: the best rank-r part of W_float - W_base), so that the start is nearer to the float model.
// Same bytes for any number of threads and across interrupts.
// Sources: Hu et al. 2106.09685 (LoRA), Dettmers et al. 2305.14314 (QLoRA), Li et al. 2310.08659 (LoftQ).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/threads.h"
#include "gradient/backward.h"
#include "model/adapter.h"
#include "tune/adamw.h"
#include "tune/chat_data.h"
#include "tune/schedule.h"

namespace tsubu {

struct LoraOptions {
  size_t rank = 16;
  double alpha = 32;
  std::string targets = "all";
  const Model* float_model = nullptr;  // LoftQ's; nullptr: the usual start
  uint64_t n_tokens = 0;            // to train on, in whole windows, the data as often as needed; 0: once
  uint64_t tokens_per_step = 2048;  // at least a window
  double rate = 2e-4;               // at the top of the schedule
  RateSchedule schedule;
  double max_norm = 1;              // of the gradient of all A and B; 0: not clipped
  AdamWOptions adamw{.second_decay = 0.999f};
  double held_out = 0.05;           // share of the windows that are only measured
  uint64_t judged_tokens = 1 << 13;
  uint32_t n_judgements = 10;       // on the way, besides the first
  uint64_t seed = 1;
  std::string checkpoint;           // file to go on from and to save to; empty: none
  double save_seconds = 60;
  uint64_t kept_bytes = 1 << 30;    // values of all blocks stay between the two passes where they take no more
  std::function<void(uint64_t step)> on_step;  // after each step
  std::string model_hash;           // of the model's files: a checkpoint of another model is not gone on from
};

struct LoraPoint {
  uint64_t step = 0;
  double rate = 0, norm = 0;
  double loss = 0;                      // of the step's targets, nats
  std::optional<double> held_out;       // after the step, nats a target
};

struct LoraResult {
  Adapter adapter;
  std::vector<LoraPoint> curve;
  double before = 0, after = 0;  // on the held-out windows, nats a target; 0 without any
  uint64_t n_steps = 0, n_trained = 0 /* targets */, n_judged = 0, first_step = 0;
  double tokens_per_second = 0, seconds = 0;
  uint64_t predicted_bytes = 0, peak_bytes = 0;  // of the whole process
  uint64_t scratch_bytes = 0;                    // of adapter and passes
  double predicted_seconds = 0;  // once the first measure of the held-out windows was taken
};

// Sums gradients of the low-rank parts of the adapter's tensors over windows.
class LoraGradient : public GradientSink {
 public:
  LoraGradient(const Adapter& adapter, ThreadPool& pool);
  void on_linear(const Op& op, const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows) override;
  void on_expert(const Op& op, size_t expert, const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows) override;
  struct Sums {
    std::vector<float> a, b;
  };
  const std::map<std::string, Sums, std::less<>>& all() const { return sums_; }
  std::map<std::string, Sums, std::less<>>& all() { return sums_; }
  void clear();
  uint64_t size_bytes() const;

 private:
  void add(const std::string& name, size_t matrix, const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows);
  const Adapter& adapter_;
  ThreadPool& pool_;
  std::map<std::string, Sums, std::less<>> sums_;
  AlignedVector<float> u_, v_, small_, x_transposed_, g_transposed_, b_transposed_, product_;
};

// A at its usual start, B zero.
Adapter fresh_adapter(const Model& model, std::span<const std::string> tensors, size_t rank, double alpha, uint64_t seed);

// Bytes of the whole process at its peak, said before the start.
struct LoraMemory {
  uint64_t now = 0;      // the program, what was read of texts and models so far
  uint64_t weights = 0;  // mapped pages of the model, and of the float one for LoftQ
  uint64_t adapter = 0;  // parameters, states and gradients
  uint64_t passes = 0;   // buffers of the engine, of both passes and of the gradients' products; or those of LoftQ's start
  uint64_t total() const { return now + weights + adapter + passes; }
};
LoraMemory lora_memory(const Model& model, const LoraOptions& options, size_t longest_window, int n_threads);

struct LoraPrediction {
  uint64_t bytes = 0 /* LoraMemory::total */, n_parameters = 0, n_steps = 0;
  double seconds = 0;  // from a short run
};
LoraPrediction predict_lora(const Model& model, std::span<const TuneWindow> windows, const LoraOptions& options, ThreadPool& pool);

// windows: what to learn from and what to measure on, in order. Throws Error(kInterrupted) when interrupted, with the checkpoint
// saved; Error(kUsage) when nothing is left to learn from.
LoraResult tune_lora(const Model& model, std::span<const TuneWindow> windows, const LoraOptions& options, ThreadPool& pool);

Json to_json(const LoraResult& result);

}  // namespace tsubu
