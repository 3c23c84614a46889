// quantization_config of a Hugging Face directory: in config.json, or in the files of their own that older tools wrote.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/layout.h"

namespace tsubu {

// files: names in the directory. An empty config when the checkpoint says nothing of quantization. Throws
// Error(kBadInput) when what it says is no JSON object.
QuantizationConfig read_quantization_config(const std::string& directory, const std::vector<std::string>& files,
                                            const Json& config, const std::string& config_path);

// What compressed-tensors' config_groups say about the weights of a module: of the group whose targets match it best (by
// name, by expression, by class) and that comes first among those; zeros where they say nothing. Targets: "Linear" or another class name (matches every module), a module's name, or
// "re:" and a regular expression that matches from the name's start.
struct CtWeights {
  uint64_t num_bits = 0, group_size = 0, block_rows = 0;  // group_size: columns of a block, where there are blocks
};
CtWeights compressed_tensors_weights(const QuantizationConfig& config, const std::string& module);

// Whether a target or an entry of "ignore" means the module.
bool matches_target(const std::string& target, const std::string& module);

}  // namespace tsubu
