// The curvatures that linears are rounded against while a directory is written, one linear after the other: of a statistics
// file, and for experts of text, over which the float model goes with them, from one group of experts to the next; it holds the
// activations of one place and the sums of expert_grams.h.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "calibrate/corpus.h"
#include "calibrate/statistics.h"
#include "pipeline/expert_grams.h"
#include "pipeline/hf_tensors.h"
#include "pipeline/kept_stream.h"
#include "round/curvature.h"

namespace tsubu {

class ExpertCurvatures {
 public:
  // damping: as Curvature's. memory: of the sums at a time. The model and the pool must outlive it.
  ExpertCurvatures(const Model& model, const CorpusOptions& text, double damping, uint64_t memory, ThreadPool& pool);
  // Of the input of an expert's matrix; nullptr where nothing is known of it or a sum takes more than the memory. Valid until
  // the next call. Experts come in the order of sort_experts; others cost the text again.
  const Curvature* find(const std::string& weight, uint64_t expert);
  // What was left out, and why.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  struct Group {
    size_t step = 0;
    const Op* op = nullptr;
    size_t n_unseen = 0;
  };
  void open(size_t group);

  const Model& model_;
  Corpus corpus_;
  double damping_;
  uint64_t memory_;
  ThreadPool& pool_;
  std::vector<Group> groups_;
  std::map<std::string, size_t> group_of_;  // by weight
  std::unique_ptr<KeptStream> stream_;
  std::map<ValueId, std::vector<float>> values_;
  size_t position_ = 0;  // where the activations are kept
  std::optional<size_t> group_, expert_;    // that curvature_ is of
  std::unique_ptr<ExpertGrams> grams_;
  std::optional<Curvature> curvature_;
  std::vector<std::string> notes_;
};

// Matrices of experts take turns in their places: by the order of their groups in the graph, then expert by expert, so that
// what reads one input is together.
void sort_experts(const Graph& graph, std::vector<HfTensor>& tensors);

class LayoutCurvatures {
 public:
  // statistics: nullptr: none. Model, file and pool must outlive it.
  LayoutCurvatures(const Model& model, const Statistics* statistics, double damping, ThreadPool& pool)
      : model_(model), statistics_(statistics), damping_(damping), pool_(pool) {}
  // From now on experts have those of this text.
  void open_experts(const CorpusOptions& text, uint64_t memory) { experts_.emplace(model_, text, damping_, memory, pool_); }
  // Of the input of a matrix; nullptr where none is known. experts: look for those of experts, which take work, too. Valid
  // until the next call. Throws Error(kBadInput) when the file is of another model.
  const Curvature* find(const HfTensor& tensor, bool experts);
  std::vector<std::string> notes() const { return experts_ ? experts_->notes() : std::vector<std::string>(); }

 private:
  const Model& model_;
  const Statistics* statistics_;
  double damping_;
  ThreadPool& pool_;
  std::optional<ExpertCurvatures> experts_;
  std::optional<Curvature> curvature_;
  std::string owner_;  // that curvature_ is of
};

}  // namespace tsubu
