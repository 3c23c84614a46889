// What the experts of a mixture see of a calibration text in the float model.
#pragma once

#include <cstdint>
#include <vector>

#include "calibrate/collector.h"
#include "calibrate/corpus.h"

namespace tsubu {

// The inputs of experts; empty when the model is no mixture.
std::vector<StatisticsInput> expert_inputs(const Model& model);

// For each input, expert after expert, the mean squares of its columns over the tokens routed to the expert; ones where no
// token was. n_unseen: how many of those there are.
std::vector<std::vector<float>> expert_mean_squares(const Model& model, const Corpus& corpus,
                                                    const std::vector<StatisticsInput>& inputs, ThreadPool& pool,
                                                    uint64_t& n_unseen);

}  // namespace tsubu
