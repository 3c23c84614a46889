// What Gemma 2 and Gemma 3 share besides the traits of GatedDecoder: the scale of attention, which config.json states and
// GGUF implies by the number of layers. `largest`: layers of the 27-billion-parameter model, where it differs.
#pragma once

#include "model/gated_decoder.h"

namespace tsubu {

double gemma_scale_by_size(const Hparams& h, uint32_t largest);
void gemma_scale_from_config(const ConfigReader& config, Hparams& h, uint32_t largest, double standard);
void gemma_scale_from_gguf(const GgufReader& metadata, Hparams& h, uint32_t largest);
void gemma_scale_to_gguf(const Hparams& h, GgufMetadata& metadata, uint32_t largest);

}  // namespace tsubu
