// The main job: a model in, a GGUF of planned types out. Streaming: a few rows for each thread and a ring of encoded
// pieces are all the memory it takes; reading, computing and writing overlap. Same bytes for any number of threads.
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
#include "container/imatrix.h"
#include "model/model.h"
#include "pipeline/calibrated.h"
#include "pipeline/manifest.h"
#include "plan/recipe.h"

namespace tsubu {

// Tensors that were trained in their types: their rows, ready to write.
struct TrainedTensors {
  std::map<std::string, std::vector<std::byte>> tensors;
  std::string method;  // "qat"
  Json treatment;      // all that decides their bytes besides the inputs
};

struct QuantizeOptions {
  std::string output;
  PlanOptions plan;
  const Imatrix* stats = nullptr;
  std::string stats_path;
  const Corpus* corpus = nullptr;          // calibration text: rounding with error feedback (pipeline/calibrated.h)
  const Statistics* statistics = nullptr;  // with Gram matrices: error feedback against those; not both
  CalibratedOptions calibrated;
  const TrainedTensors* trained = nullptr;  // not together with corpus or statistics
  Json transform;             // of TransformedModel: what was done to the model beforehand; null: nothing
  bool measure_error = true;  // rel_rmse of each tensor (decodes what was encoded)
  bool dry_run = false;       // only the plan: sizes and an estimate of the time from a short measurement
  int n_threads = 0;
  std::string model_name;     // general.name; empty: the model's own
  bool digest_output = false;  // QuantizeResult::output_sha256
  std::shared_ptr<InputDigests> inputs;  // of input_digests(); nullptr: made when needed
};

struct QuantizedTensor {
  std::string name, role, type, source_type, reason;
  std::vector<uint64_t> shape;
  uint64_t size_bytes = 0;
  double output_error = 0, search_output_error = 0;  // on held-out text (RoundedTensor); 0: not measured
  double rel_rmse = 0;       // ‖x̂ − x‖ / ‖x‖; 0 when copied or not measured
  bool used_stats = false;
  std::string method;        // how it was rounded: "copy", "search", "gptq+descent" …
};

struct QuantizeResult {
  uint64_t source_bytes = 0, size_bytes = 0;  // size of the output file
  double bits_per_weight = 0;                 // everything in the file that is not metadata, over the weights
  uint64_t n_weights = 0;
  std::vector<QuantizedTensor> tensors;
  std::vector<std::string> notes;             // fallbacks, missing statistics, leftovers of an interrupted run
  double seconds = 0, estimated_seconds = 0;
  CalibrationDivergence divergence;           // with calibration text
  uint64_t peak_rss_bytes = 0;
  std::vector<InputFile> inputs;              // what it was made of; empty after a dry run
  std::string output_sha256;                  // of the file that was written, when it was asked for
  Json treatment;                             // pipeline/manifest.h
  std::string model_name;                     // general.name of the file
};

// Output that would overwrite the model, or in a folder that is not there: Error(kUsage / kIo), before hours of work.
void check_output(const Model& model, const std::string& output);

// Starts to compute the digests of all files that quantize() reads with these options.
std::shared_ptr<InputDigests> input_digests(const Model& model, const QuantizeOptions& options);

// Throws Error: kUsage (output equals input, bad plan), kBadInput (NaN or infinite weights: tensor, row, column;
// statistics of the wrong size), kIo, kInterrupted.
QuantizeResult quantize(const Model& model, const Recipe& recipe, const QuantizeOptions& options);
// Size of the file that quantize would write, to the byte.
uint64_t quantized_bytes(const Model& model, const Recipe& recipe, const QuantizeOptions& options);
Json to_json(const QuantizeResult& result);

// Layout and dtype conversion: every matrix to dtype ("F32", "F16", "BF16", or "" = as it is, floats kept), GGUF out.
QuantizeResult convert(const Model& model, const std::string& output, const std::string& dtype, int n_threads,
                       bool digest_output = false);

}  // namespace tsubu
