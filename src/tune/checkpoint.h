// Checkpoints of a training: safetensors files that hold all that it depends on.
#pragma once

#include <string>

#include "container/safetensors.h"

namespace tsubu {

// Throws Error(kBadInput / kIo) that says what to do with a damaged one.
SafetensorsFile open_checkpoint(const std::string& path);
// Throws Error(kUsage) when it is another run's: it is not overwritten.
void check_checkpoint_key(bool is_same, const std::string& path);

}  // namespace tsubu
