// Rotary position embedding with its scaling rules, read from either world and folded into frequencies.
// Sources: RoPE (arXiv:2104.09864); position interpolation (arXiv:2306.15595); YaRN (arXiv:2309.00071); Llama 3.1's
// rule as published in its reference code (frequencies divided by wavelength-dependent factors).
#pragma once

#include "model/config_reader.h"
#include "model/graph.h"

namespace tsubu {

// Sets rope_base and rope_scaling of h from "rope_theta" + "rope_scaling", or from the newer "rope_parameters" (of its
// full attention, where it tells layers with a window apart; their base becomes local_rope_base). Needs head_dim,
// rope_dims and n_ctx. Throws Error(kUnsupported) for a rule that is not known.
void rope_from_config(const ConfigReader& config, Hparams& h);
// The same from "<architecture>.rope.*". Llama 3's factors are a tensor there, rope_freqs.weight: the reader of the
// tensors sets rope_scaling.frequency_factors.
void rope_from_gguf(const GgufReader& metadata, Hparams& h);
void rope_to_gguf(const Hparams& h, GgufMetadata& metadata);

// The share of each head that is rotated, from "partial_rotary_factor" or an older key; 1 when nothing says it.
double rotary_share(const ConfigReader& config, std::string_view older_key = "");

// YaRN's factor of cosines and sines: 0.1 multiplier ln(factor) + 1.
double yarn_magnitude(double factor, double multiplier);

RopeSpec make_rope(const Hparams& h, RopeSpec::Style style);
// Of the layers with a window, where they have a base of their own: nothing is scaled there.
RopeSpec make_local_rope(const Hparams& h, RopeSpec::Style style);

}  // namespace tsubu
