// What IQ4_NL and IQ4_XS share: sixteen levels, denser around zero. Source: ggml's kvalues_iq4nl.
#pragma once

#include "codec/lanes.h"

namespace tsubu {

inline constexpr float kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

}  // namespace tsubu
