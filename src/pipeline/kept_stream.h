// One model on its way through its graph with many chunks of text: each chunk's activations are kept at one place of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "calibrate/corpus.h"
#include "calibrate/gram.h"
#include "engine/engine.h"

namespace tsubu {

// Floats of memory for each token to keep what is live at `step` of the graph; values that are only read as bfloat16 from
// there on take half.
double kept_width(const Graph& graph, size_t step, Products products);
// Where among the steps [from, to] that is least, if it is at most 2.5 times n_embd; else `otherwise`.
size_t narrowest_step(const Graph& graph, size_t from, size_t to, size_t otherwise, size_t n_embd, Products products);

// A chunk's activations at one place of the graph. bf16: of values that are only read as such.
struct KeptValues {
  size_t step = 0;
  std::map<ValueId, std::vector<float>> floats;
  std::map<ValueId, std::vector<uint16_t>> bf16;
};

class KeptStream {
 public:
  KeptStream(const Model& model, const Corpus& corpus, Products products, ThreadPool& pool);

  Engine& engine() { return *engine_; }

  // What was kept goes; the stream is at its end.
  void forget() { chunks_.clear(); }

  // Of the last n tokens of a text.
  void logits(const std::vector<TokenId>& tokens, size_t n, std::span<float> out);

  // The chunk from where it is kept to step `end`; keeps the activations at `keep` on the way when that is further on.
  // wanted: values live at `end`. out may hold more than those.
  void advance(size_t chunk, size_t keep, size_t end, const std::vector<ValueId>& wanted,
               std::map<ValueId, std::vector<float>>& out);

 private:
  void store(const std::map<ValueId, std::vector<float>>& values, size_t step, KeptValues& kept);
  void run(const std::vector<TokenId>& tokens, size_t begin, size_t end, const KeptValues& in,
           const std::vector<ValueId>& wanted, std::map<ValueId, std::vector<float>>& out);

  const Model& model_;
  const Corpus& corpus_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Session> session_;
  Products products_;
  std::vector<KeptValues> chunks_;
  std::map<ValueId, std::vector<float>> restored_;
};

}  // namespace tsubu
