// A model that is transformed and rounded in one go: the transform's own part. What it changes waits in a nameless file
// beside the output, so nothing stays behind whatever happens.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/threads.h"
#include "calibrate/corpus.h"
#include "model/model.h"
#include "round/sim_format.h"
#include "transform/transforms.h"

namespace tsubu {

struct TransformRequest {
  std::vector<std::string> names;  // of the list of transforms
  std::optional<double> alpha;     // SmoothQuant's; none: searched
  uint64_t seed = 1;               // of rotations
  bool any() const { return !names.empty(); }
};

struct TransformedModel {
  std::unique_ptr<EditableModel> model;
  std::vector<TransformReport> reports;
  std::vector<std::string> notes;
  Json treatment;  // all that decides its weights besides the model and the text
};

// The windows that transforms look at: some thousand tokens, spread over the text, none of those that calibrated
// rounding holds out.
Corpus transform_corpus(const Corpus& corpus);

// corpus: the calibration text, or nullptr. What needs no text alone: of a dry run, the shapes are right. The
// transformed model is compared with the original on a window of the text. Throws Error(kUsage) when text is needed and
// there is none, and for clipping, which is a part of rounding by search; Error(kUnsupported) where the architecture
// does not allow it; Error(kNumeric) when the models differ.
TransformedModel transform_for_rounding(const Model& model, const TransformRequest& request, const Corpus* corpus,
                                        const AwqOptions& awq, const std::string& output, bool shapes_only,
                                        ThreadPool& pool);

// AWQ's search with formats that are no GGUF types: each matrix is rounded by the format's own search, on fewer rows,
// since that takes about a microsecond for each weight. format_of: nullptr for a matrix that stays a float.
AwqOptions awq_for_formats(std::function<const SimFormat*(const std::string& name)> format_of, bool importance);

// The manifest's entry.
Json to_json(const std::vector<TransformReport>& reports);

}  // namespace tsubu
