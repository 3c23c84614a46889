// Statistics with Gram matrices of a text, made for one output: they wait beside it (OUT.tsubu-stats.gguf), so that a
// run that is interrupted goes on from them, and are removed when the output is there.
#pragma once

#include <optional>
#include <string>

#include "base/json.h"
#include "calibrate/corpus.h"
#include "calibrate/statistics.h"
#include "model/model.h"

namespace tsubu {

class TextStatistics {
 public:
  // transform: what was done to the model in memory; null: nothing. with_head: of the head's input as well.
  TextStatistics(const Model& model, const CorpusOptions& corpus, const std::string& output, const Json& transform,
                 bool with_head, int n_threads);
  const Statistics& statistics() const { return *statistics_; }
  const std::string& path() const { return path_; }
  void remove();

 private:
  std::string path_;
  std::optional<Statistics> statistics_;
};

}  // namespace tsubu
