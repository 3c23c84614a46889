// QAT end to end: a recipe's types, weights trained in them (tune/qat.h), a GGUF of those rows.
#pragma once

#include <string>
#include <vector>

#include "pipeline/quantize.h"
#include "tune/qat.h"

namespace tsubu {

struct QuantizeTrainedOptions {
  QuantizeOptions quantize;          // output, plan, threads; no text or statistics
  QatOptions qat;                    // start, checkpoint and key are set here
  std::vector<std::string> frozen;   // regular expressions, searched in the names: these tensors are rounded, not trained
  const Model* start = nullptr;
  bool with_checkpoint = true;
};

struct QuantizeTrainedResult {
  QatEstimate predicted;
  QatResult training;        // without the tensors; empty after a dry run
  QuantizeResult quantized;  // after a dry run: the plan
};

// Throws as quantize() and Qat do.
QuantizeTrainedResult quantize_trained(const Model& model, const Recipe& recipe, const Corpus& corpus,
                                       const QuantizeTrainedOptions& options);
// "OUT.tsubu-checkpoint": where the training of an output is kept until the output is there.
std::string checkpoint_path(const std::string& output);

}  // namespace tsubu
