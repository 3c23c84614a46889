// Activation statistics of a model over text: an importance matrix, and Gram matrices on demand. See statistics.h for
// the file.
// Memory: moments of all inputs, and the sums of the Gram matrices of some blocks at a time (`memory`): where those of
// all blocks do not fit, the text goes through the model a few blocks at a time and what passes from block to block is
// kept in a file beside the output. Every block runs once for each chunk either way, and the bytes are the same.
// Work in progress: OUTPUT.tsubu-work/ holds finished Gram matrices, the stream between blocks, and the sums, saved
// every few minutes and at an interrupt; the same command goes on from there when model, text and options are the same.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/threads.h"
#include "calibrate/corpus.h"
#include "model/model.h"

namespace tsubu {

struct CalibrateOptions {
  CorpusOptions corpus;
  std::string output;
  std::string variant;                  // of a model that was changed in memory: what the work in progress belongs to as well
  bool gram = false;
  bool fisher = false;                  // of output gradients, for rounding under both sides' curvature; not with legacy
  uint64_t fisher_tokens = 1 << 16;     // at most: chunks spread over the text
  uint64_t fisher_seed = 1;             // of the labels that are drawn
  bool process_output = true;           // statistics of the head's input
  bool legacy = false;                  // write llama.cpp's .dat form; not with gram
  uint64_t memory = uint64_t{2} << 30;  // bytes of Gram sums held at once; of output gradients beside them as many again
  double save_seconds = 300;            // between saves of work in progress; tests set it
};

struct CalibratedInput {
  std::vector<std::string> linears;  // as they are called in the file
  uint64_t n_cols = 0;
  std::vector<uint64_t> n_tokens;  // seen by each matrix: one, or one for each expert
};

// How the tokens spread over the experts of a mixture.
struct ExpertCoverage {
  uint64_t n_experts = 0;  // in all layers
  uint64_t n_unseen = 0;   // of them no token came to
  uint64_t n_few = 0;      // fewer than kFewTokens, the unseen among them
  uint64_t least = 0, median = 0, most = 0;  // tokens of an expert
};
inline constexpr uint64_t kFewTokens = 256;

struct CalibrateResult {
  std::vector<CalibratedInput> inputs;
  std::vector<CorpusSource> sources;
  uint32_t context = 0, n_chunks = 0, n_passes = 0;
  uint64_t fisher_tokens = 0;  // whose gradients were looked at
  uint64_t n_tokens = 0, size_bytes = 0, resumed_tokens = 0;  // resumed: done by an earlier run
  double seconds = 0, tokens_per_second = 0;                  // of this run
};

// Throws Error(kUsage) on options that do not go together, Error(kNumeric) when an activation is not finite,
// Error(kInterrupted) after saving the work.
CalibrateResult calibrate(const Model& model, const CalibrateOptions& options, ThreadPool& pool);
Json to_json(const CalibrateResult& result);
ExpertCoverage expert_coverage(const CalibrateResult& result);  // n_experts 0: the model is no mixture

// Where work in progress lies.
std::string calibration_work_directory(const std::string& output);

// Adds statistics files of one model up: sums and counts are added, maxima are maxima. Throws Error(kBadInput) when
// they are not of the same linears or one has Gram matrices that another has not.
uint64_t merge_statistics(const std::vector<std::string>& paths, const std::string& output);

}  // namespace tsubu
