// The FP4 table: one definition for every instruction set.
#include "codec/small_floats.h"

namespace tsubu {

const float kE2m1Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

}  // namespace tsubu
