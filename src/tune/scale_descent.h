// Tuning a quantized model within its format, end to end: the scales of blocks, the gains of norms and, where memory allows,
// the codes go down the gradient of the KL divergence from the float model's next-token distribution. Integer scales and
// the layout stay. Scales and gains are shares of their start, p = p0 (1 + s), rounded to the f16 of the block before each
// forward pass; a code is the nearest to start + u, straight through. Steps of s and u are Adam's, with a cosine schedule.
// What is judged is what is written. Windows are learned in an order drawn anew for each pass: neighbors resemble each other.
// Sources: Chen et al. 2407.11062 (EfficientQAT, its end-to-end phase); Cheng et al. 2309.05516 (SignRound, places of codes);
// Kingma and Ba 1412.6980 (Adam).
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/threads.h"
#include "calibrate/corpus.h"
#include "model/model.h"

namespace tsubu {

struct ScaleDescentOptions {
  int epochs = 2;                  // over the windows that are learned from
  double rate = 1e-3;              // of s, at the top of the schedule
  double code_rate = 0.02;         // of u; 0: codes stay
  uint64_t code_memory = uint64_t{4} << 30;  // bytes that moving codes may take; beyond it they stay
  uint64_t tokens_per_step = 1024;  // at least a window
  uint64_t max_tokens = 0;         // of an epoch, spread over the text; 0: all
  double held_out = 0.125;         // share of the windows that only judge
  uint64_t judged_tokens = 1 << 13;
  bool gains = true;               // of norms too
  const Model* teacher = nullptr;  // what the divergence is from; nullptr: the float model itself
  std::string checkpoint;          // file to go on from after an interrupt, removed by who gave it; empty: none
  std::string checkpoint_key;      // what it depends on besides these options; with another key it is not taken
};

// A tensor of the quantized model: bytes in GGUF's order, of another type than the float model's.
struct EncodedTensor {
  const TypeInfo* type = nullptr;
  std::span<const std::byte> bytes;
};

struct ScaleDescentResult {
  std::map<std::string, std::vector<std::byte>> tensors;  // those that changed, whole; norms in F32. Empty: nothing was kept
  double before = 0, after = 0;                           // mean KL divergence on the held-out windows, nats a token
  double seen = 0;                                        // after, on as many windows that were learned from
  size_t n_parameters = 0, n_codes = 0, n_steps = 0;
  size_t first_step = 0;  // above 0: it went on from the checkpoint
  uint64_t n_judged = 0;  // tokens
};

// The tuned tensors where they lower the divergence on held-out windows, else none. `encoded` must outlive the call; the
// rest of the model is float. Fewer than two windows for each held-out one: nothing is tuned. Same bytes for any number of
// threads, and with a checkpoint in between. Throws Error(kInterrupted) once the checkpoint, if there is one, is written.
ScaleDescentResult tune_scales(const Model& model, const std::map<std::string, EncodedTensor>& encoded, const Corpus& corpus,
                               const ScaleDescentOptions& options, ThreadPool& pool);

// Multiplications of tune_scales.
double scale_descent_products(const Model& model, const Corpus& corpus, const ScaleDescentOptions& options);

}  // namespace tsubu
