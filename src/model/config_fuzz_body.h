// What the fuzz target does with its input, for the replay and mutation tests as well: any text either is a
// configuration of an architecture, whose tensors and graph can then be written down, or is refused with tsubu::Error.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "model/architecture.h"

namespace tsubu {

// Lists by layer and by frequency grow with the configuration (within its limits); they are cut to keep a run short.
inline void write_down(const Architecture& architecture, Hparams h) {
  h.n_layers = std::min(h.n_layers, 3u);
  for (const TensorSpec& spec : architecture.tensors(h)) {
    uint64_t n = 1;
    for (uint64_t d : spec.shape)
      if (d == 0 || __builtin_mul_overflow(n, d, &n)) std::abort();
    if (spec.transform == HfTransform::kRopeInterleave && (spec.n_heads == 0 || spec.shape[0] % spec.n_heads != 0))
      std::abort();
  }
  const Graph graph = architecture.graph(h);
  for (const Op& op : graph.ops)
    for (ValueId input : op.inputs)
      if (input < 0 || input >= op.output) std::abort();
  for (const RopeSpec& rope : graph.ropes)
    for (float frequency : rope.inverse_frequencies)
      if (!(frequency >= 0)) std::abort();
  (void)linear_groups(graph);
}

// Number of architectures that accept the text.
inline size_t try_config(std::string_view text) {
  size_t n_accepted = 0;
  for (const Architecture* architecture : architectures()) {
    try {
      const Hparams h = architecture->hparams_from_config(parse_json(text, "input"), "input");
      write_down(*architecture, h);
      GgufMetadata metadata;
      architecture->hparams_to_gguf(h, metadata);
      Hparams again = architecture->hparams_from_gguf(metadata, "input");
      again.n_vocab = h.n_vocab;
      write_down(*architecture, again);
      ++n_accepted;
    } catch (const Error&) {
    }
  }
  return n_accepted;
}

}  // namespace tsubu
