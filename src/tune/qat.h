// Quantization-aware training: f32 master weights, of which every step's forward pass sees what their types make of them
// (encode, decode); gradients pass the rounding straight through to the masters; AdamW. The loss is the KL divergence from the
// float model's next-token distribution, or the cross entropy of the text. What is judged on held-out windows is what is
// written: the encoded rows. Checkpoints hold all that a run depends on: it goes on to the same bytes.
// Sources: Bengio et al. 1308.3432 (straight-through gradients); Liu et al. 2305.17888 (LLM-QAT, distillation); Ma et al.
// 2402.17764 (ternary weights); Loshchilov and Hutter 1711.05101 (AdamW).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/threads.h"
#include "calibrate/corpus.h"
#include "codec/scheme.h"
#include "model/model.h"
#include "tune/adamw.h"
#include "tune/schedule.h"

namespace tsubu {

enum class TrainingLoss { kDivergence, kCrossEntropy };

struct QatOptions {
  TrainingLoss loss = TrainingLoss::kDivergence;
  // At the top of the schedule; a share of the root mean square of each tensor's weights at the start, so that one number
  // fits tensors of any size.
  double rate = 0.003;
  RateSchedule schedule;
  AdamWOptions adam;
  uint64_t tokens_per_step = 2048;  // at least a window
  uint64_t n_tokens = 0;            // in all; 0: each learned window once
  double held_out = 0.05;           // share of the windows that only judge
  uint64_t judged_tokens = 1 << 13;
  uint32_t n_evaluations = 10;      // spread over the steps, besides the one before the first
  uint64_t seed = 1;                // of the order of the windows
  bool bf16_products = false;       // of training; what is judged is f32. The bytes then depend on the instruction set
  uint64_t kept_bytes = uint64_t{1} << 30;  // of values that stay between the two passes (Backward::keep_values)
  std::optional<Scheme> activations;  // of the inputs of the blocks' linears: int8:token for W8A8, W4A8
  const Model* start = nullptr;     // its weights are the first masters; nullptr: the model's own
  std::string checkpoint;           // file; empty: none is written
  std::string key;                  // all that the run depends on besides these options: models, texts
};

// What training makes of a tensor.
struct QatTensor {
  const TypeInfo* type = nullptr;
  bool is_frozen = false;  // keeps the weights of the start, in its type
};

struct QatPoint {
  uint64_t step = 0, tokens = 0;              // done
  double loss = 0;                            // mean of the steps since the last point, nats a token
  double divergence = 0, cross_entropy = 0;   // on the held-out windows, nats a token
  double rate = 0;                            // of the last step
};

struct QatResult {
  std::map<std::string, std::vector<std::byte>> tensors;  // rows in their types, as of the best point
  std::vector<QatPoint> curve;                            // the first is before the first step
  size_t best = 0;                                        // of the curve, by the loss that is trained
  double float_cross_entropy = 0;                         // of the float model on the held-out windows
  uint64_t n_steps = 0, n_tokens = 0, n_weights = 0, n_trained = 0, n_judged = 0;
  uint64_t first_step = 0;  // of this run: above 0 when it went on from a checkpoint
  double seconds = 0, tokens_per_second = 0;  // of this run's steps
  uint64_t peak_bytes = 0;  // of the whole process
  // Shares of the time of the steps: float model, both passes, encoding, optimizer, judging.
  std::map<std::string, double> shares;
};

struct QatEstimate {
  double seconds = 0;
  uint64_t memory_bytes = 0;  // of the whole process at its peak
  uint64_t checkpoint_bytes = 0;
  uint64_t n_steps = 0, n_tokens = 0, n_weights = 0;
};

// `tensors`: by name, those the file will have in another type or with other values; the rest stays float. Throws Error:
// kUsage (too little text, a checkpoint of another run), kNumeric (the loss is not finite), kInterrupted: a checkpoint of the
// last finished step is there, if any was asked for. Same bytes for any number of threads.
class Qat {
 public:
  Qat(const Model& model, const std::map<std::string, QatTensor>& tensors, const Corpus& corpus, const QatOptions& options,
      ThreadPool& pool);
  ~Qat();
  // From the sizes and a measurement of one short window on this machine.
  QatEstimate estimate();
  QatResult run();

 private:
  class Run;
  std::unique_ptr<Run> run_;
};

Json to_json(const QatResult& result);
Json to_json(const QatEstimate& estimate);

}  // namespace tsubu
