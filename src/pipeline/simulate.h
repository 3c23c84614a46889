// A model whose linears hold the values of a simulated format, as floats: what `eval` measures for formats that are no
// GGUF type. One matrix at a time is in memory.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "calibrate/statistics.h"
#include "model/model.h"
#include "round/sim_round.h"

namespace tsubu {

struct SimulateOptions {
  std::string output;
  std::string type = "F32";  // F32 or F16
  SimFormat format;
  SimMethod method;
  const Statistics* stats = nullptr;  // importance and Gram matrices
  double damping = 0.01;              // share of the Gram matrix' mean diagonal
  bool all = false;                   // the head and the token embedding too
  int n_threads = 0;
};

struct SimulatedTensor {
  std::string name;
  std::vector<uint64_t> shape;
  uint64_t n_bits = 0;  // as the format stores it
  double bits_per_weight = 0;
  double rel_rmse = 0;     // ‖ŵ − w‖ / ‖w‖
  double rel_output = -1;  // √(Σ r H rᵀ / Σ w H wᵀ), H as the rounding sees it; -1 without a Gram matrix
};

struct SimulateResult {
  std::vector<SimulatedTensor> tensors;  // those that were rounded
  std::vector<std::string> notes;
  uint64_t n_weights = 0, n_bits = 0;                         // of those
  double bits_per_weight = 0, rel_rmse = 0, rel_output = -1;  // over all of them; rel_output: that have a Gram matrix
  uint64_t size_bytes = 0;                                    // of the float file
  double seconds = 0;
};

// Throws Error: kUsage (output equals input), kUnsupported (a method that the format cannot take, or that needs a Gram
// matrix that the statistics lack), kBadInput (a weight that is not finite; statistics of another model), kIo.
SimulateResult simulate(const Model& model, const SimulateOptions& options);
Json to_json(const SimulateResult& result);

}  // namespace tsubu
