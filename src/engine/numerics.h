// What the engine computes in when it is not plain f32: schemes of the linears' weights and inputs, types of the cache,
// outlier columns. Everything off by default.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "codec/scheme.h"
#include "engine/kv_format.h"

namespace tsubu {

struct Numerics {
  std::optional<Scheme> weights, activations;
  // Columns of a linear's input in which any |x| of the tokens computed together exceeds this stay in float, as do the
  // weights they meet (LLM.int8, 2208.07339 §3.2); scales are those of the other columns. 0: none. With it, results
  // depend on how a sequence is cut into calls, because the columns are chosen for each batch.
  float outliers = 0;
  bool with_head = false;  // the logits' linear as well, not only those of the blocks
  // Integer weights met by integer activations are multiplied as integers, exact in 32 bits. false: as floats, with
  // codes and scales multiplied out; the same up to rounding.
  bool integer_kernels = true;
  // Largest magnitude of the input of each linear, by the name of its weight: for static activation scales.
  std::map<std::string, float> static_magnitudes;
  KvFormats cache;

  bool linears() const { return weights || activations; }
  bool any() const { return linears() || !cache.keys.is_f32() || !cache.values.is_f32(); }
  // Whether linears multiply integers: both schemes are integers, and where their scales change fits.
  bool integer_products(size_t n_cols = SIZE_MAX) const;
  // For people: "weights int8:channel, activations int8:token (integer kernels), keys Q8_0, values Q8_0".
  std::string description() const;
};

}  // namespace tsubu
