#include "pipeline/text_statistics.h"

#include <filesystem>

#include "calibrate/calibrate.h"

namespace tsubu {

TextStatistics::TextStatistics(const Model& model, const CorpusOptions& corpus, const std::string& output,
                               const Json& transform, bool with_head, int n_threads)
    : path_(output + ".tsubu-stats.gguf") {
  CalibrateOptions calibration;
  calibration.corpus = corpus;
  calibration.gram = true;
  calibration.process_output = with_head;
  calibration.output = path_;
  if (!transform.is_null()) calibration.variant = transform.dump();
  {
    ThreadPool pool(n_threads);
    (void)calibrate(model, calibration, pool);
  }
  statistics_ = Statistics::open(path_);
}

void TextStatistics::remove() {
  statistics_.reset();
  std::error_code error;
  std::filesystem::remove(path_, error);
}

}  // namespace tsubu
