// What a change of a model does to its outputs, on fixed text: divergence from the unchanged model, in the same run, on
// the same tokens. Protocol: windows of `context` tokens, the second half of each scored (llama.cpp's), f32.
// The unchanged model's logits are kept in memory; its activations are kept at one place of the graph, which only moves
// forward: a change of a tensor that is read from there on costs the rest of the graph, not all of it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/threads.h"
#include "engine/engine.h"
#include "evaluate/scoring.h"

namespace tsubu {

struct Harm {
  std::vector<BlockSums> chunks;  // sums over the scored tokens of each
  double kld = 0;                 // mean KL(unchanged ‖ changed), nats
  double ln_ppl_ratio = 0;        // of the text's perplexities
  double top1 = 1;                // share of tokens with the same most likely next token
  Interval kld_ci95;              // block bootstrap over chunks
};

// Linears that read one value, in graph order.
struct ReadGroup {
  size_t step = 0;  // of the first
  ValueId input = kNoValue;
  std::vector<const Op*> linears;
};
std::vector<ReadGroup> read_groups(const Graph& graph);

// A tensor in place of the model's of that name; must outlive the measurement.
using Replacement = const ModelTensor*;

// The activations of some windows at one place of the graph, which only moves forward.
class ActivationWalk {
 public:
  // chunks: windows of the same length; they must outlive the walk, as the model must.
  ActivationWalk(const Model& model, std::span<const std::vector<TokenId>> chunks, ThreadPool& pool);

  // The activations of every chunk move to step `step`, not behind where they are. rewind: to the start.
  void advance(size_t step);
  void rewind();
  size_t step() const { return step_; }
  size_t n_chunks() const { return chunks_.size(); }
  std::span<const TokenId> tokens(size_t chunk) const { return {chunks_[chunk].data(), chunks_[chunk].size() - 1}; }
  // A value that is live there: (context - 1, width).
  const std::vector<float>& value(size_t chunk, ValueId id) const { return values_[chunk].at(id); }
  // From there to the end: logits of the tokens from the first-th on.
  void finish(size_t chunk, size_t first, std::vector<float>& logits);
  Engine& engine() { return *engine_; }

 private:
  const Model& model_;
  std::span<const std::vector<TokenId>> chunks_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Session> session_;
  size_t step_ = 0;
  std::vector<std::map<ValueId, std::vector<float>>> values_;
};

class HarmMeter {
 public:
  // chunks: windows of the same length, with BOS where the vocabulary wants it. All must outlive the meter.
  HarmMeter(const Model& model, std::span<const std::vector<TokenId>> chunks, ThreadPool& pool);

  size_t context() const { return chunks_.front().size(); }
  size_t n_scored() const { return context() - 1 - first_scored(); }  // of each chunk
  size_t n_chunks() const { return chunks_.size(); }
  double mean_nll() const { return nll_; }  // of the unchanged model

  void advance(size_t step) { walk_.advance(step); }
  void rewind() { walk_.rewind(); }
  size_t step() const { return walk_.step(); }
  const std::vector<float>& value(size_t chunk, ValueId id) const { return walk_.value(chunk, id); }

  // From the kept place on with these weights instead (of operations at or after it).
  Harm measure(std::span<const Replacement> replacements);
  // The whole model in other numerics, with an editor of its activations, or both with other weights. before_chunk: told
  // which chunk comes next.
  Harm measure_whole(const EngineOptions& options, std::span<const Replacement> replacements,
                     const std::function<void(size_t chunk)>& before_chunk = {});
  // Another model over the same vocabulary, with some of its weights replaced.
  Harm measure_model(const Model& other, std::span<const Replacement> replacements = {});

  // Bytes of logits kept for so many chunks.
  static uint64_t logit_bytes(const Model& model, size_t context, size_t n_chunks);

 private:
  size_t first_scored() const { return context() / 2; }
  ChunkProtocol protocol() const { return {.context = static_cast<uint32_t>(context()), .first = first_scored()}; }
  BlockSums score(size_t chunk, const std::vector<float>& logits);
  Harm whole(Engine& engine, const std::function<void(size_t chunk)>& before_chunk);
  Harm finish(std::vector<BlockSums> chunks) const;

  const Model& model_;
  std::span<const std::vector<TokenId>> chunks_;
  ThreadPool& pool_;
  ActivationWalk walk_;
  std::vector<std::vector<float>> base_;  // logits of the scored tokens, by chunk
  double nll_ = 0;
};

}  // namespace tsubu
