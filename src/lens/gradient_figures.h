// The part of the study's page about sensitivities by gradients.
#pragma once

#include <string>

#include "lens/gradient_study.h"
#include "page/chart.h"
#include "page/words.h"

namespace tsubu {

// HTML: a heading, figures, a table behind each.
std::string gradient_figures(const GradientStudy& study, Charts& charts, const Words& words);

}  // namespace tsubu
