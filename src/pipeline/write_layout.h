// A model written as a Hugging Face directory: float, or with its linears in a quantized layout. Tensors are rounded one
// matrix at a time, what they pack into waits in a file beside the output, and the shards are put together from it, so
// memory holds one matrix whatever the model's size. The directory appears whole or not at all. What was written is opened
// again, and the errors that are reported are those of its values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "calibrate/corpus.h"
#include "calibrate/statistics.h"
#include "model/model.h"
#include "pipeline/layout_choices.h"
#include "pipeline/layout_schemes.h"
#include "round/sim_round.h"

namespace tsubu {

struct WriteLayoutOptions {
  std::string output;                   // a directory that is not there, or empty
  std::string base;                     // directory with config.json and tokenizer files; empty: the model's own
  const LayoutScheme* scheme = nullptr; // nullptr: floats
  std::string dtype;                    // floats: "F32", "F16", "BF16" or "" = as they are
  uint64_t group_size = 0;              // 0: the scheme's
  LayoutChoices choices;                // linears with a scheme of their own
  SimMethod method = {SimStart::kSearch, 0};
  const Statistics* stats = nullptr;
  std::string stats_path;
  CorpusOptions corpus;                 // with texts: the statistics are made of them first
  double damping = 0.01;
  uint64_t expert_memory = uint64_t{4} << 30;  // bytes of experts' Gram sums at a time, with texts
  bool keep_codes = true;               // a quantized source whose grid fits is carried over code by code
  // Where the model was transformed beforehand: the model as it was, whose float types the tensors keep, and
  // TransformedModel's treatment, reports and notes.
  const Model* untransformed = nullptr;
  Json transform, transform_reports;
  std::vector<std::string> notes;  // to begin with
  uint64_t shard_bytes = uint64_t{5} << 30;
  int n_threads = 0;
  std::string command = "quantize";     // for the manifest, with the options that were given
  Json given_options = Json::object();
  bool write_manifest = true;
};

struct WrittenTensor {
  std::string name, layout, kind, method;  // of Hugging Face; "float" or the layout; "int4 group=128"; "copy", "codes", "search" …
  std::vector<uint64_t> shape;
  uint64_t size_bytes = 0;
  double rel_rmse = 0;     // of the values in the written files, against the model's
  double rel_output = -1;  // √(Σ r H rᵀ / Σ w H wᵀ) with a Gram matrix
};

struct WriteLayoutResult {
  std::string method, scheme, format;      // "gptq", "W4A16", "int4:group=128:scale=f16"; several: with " + " between them
  uint64_t source_bytes = 0, size_bytes = 0, n_weights = 0;  // size of the weights' files
  double bits_per_weight = 0;
  std::vector<WrittenTensor> tensors;
  std::vector<std::string> files, notes;
  Json manifest;
  double seconds = 0;
  uint64_t peak_rss_bytes = 0;
};

// By the tensor's name: the formats of the linears that are quantized element by element (not FP8 in blocks).
std::map<std::string, SimFormat> layout_formats(const Model& model, const WriteLayoutOptions& options);

// Throws Error: kUsage (output exists, options that do not fit), kUnsupported (rows that the layout cannot hold; linears
// that are stored transposed), kBadInput (a weight that is not finite), kIo, kNumeric (the written files do not decode to
// what was meant), kInterrupted.
WriteLayoutResult write_layout(const Model& model, const WriteLayoutOptions& options);
Json to_json(const WriteLayoutResult& result);

}  // namespace tsubu
