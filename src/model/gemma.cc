// The scale of attention in the Gemma family; see gemma.h.
#include "model/gemma.h"

#include <cmath>

#include "base/error.h"
#include "base/progress.h"

namespace tsubu {

// Readers of GGUF know the scale of attention by the number of layers: the largest model's comes from the embedding.
double gemma_scale_by_size(const Hparams& h, uint32_t largest) {
  return 1 / std::sqrt(h.n_layers == largest ? static_cast<double>(h.n_embd / h.n_heads) : h.head_dim);
}

void gemma_scale_from_config(const ConfigReader& config, Hparams& h, uint32_t largest, double standard) {
  const double scalar = config.find_number("query_pre_attn_scalar", 1e-6, 1e9).value_or(standard);
  h.attention_scale = 1 / std::sqrt(scalar);
  if (std::abs(h.attention_scale / gemma_scale_by_size(h, largest) - 1) > 1e-6)
    note(fmt::format(
        "{}: query_pre_attn_scalar {} is not what other readers of GGUF take for {} layers (they divide by sqrt({:g}))",
        config.where(), scalar, h.n_layers, std::pow(gemma_scale_by_size(h, largest), -2)));
}

void gemma_scale_from_gguf(const GgufReader& metadata, Hparams& h, uint32_t largest) {
  h.attention_scale =
      metadata.find_number("attention.scale", 1e-9, 1e9).value_or(gemma_scale_by_size(h, largest));
}

void gemma_scale_to_gguf(const Hparams& h, GgufMetadata& metadata, uint32_t largest) {
  if (std::abs(h.attention_scale / gemma_scale_by_size(h, largest) - 1) > 1e-6)
    metadata.set(h.architecture + ".attention.scale", GgufValue::f32(static_cast<float>(h.attention_scale)));
}

}  // namespace tsubu
