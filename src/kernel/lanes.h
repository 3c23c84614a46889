// The lane vocabulary of the ISA this translation unit is compiled for (TSUBU_ISA names it and is the namespace of
// everything the unit defines).
#pragma once

#if defined(TSUBU_ISA_AVX512)
#include "kernel/lanes_avx512.h"
namespace tsubu::TSUBU_ISA { using Lanes = Avx512Lanes; }
#elif defined(TSUBU_ISA_AVX2)
#include "kernel/lanes_avx2.h"
namespace tsubu::TSUBU_ISA { using Lanes = Avx2Lanes; }
#elif defined(TSUBU_ISA_NEON)
#include "kernel/lanes_neon.h"
namespace tsubu::TSUBU_ISA { using Lanes = NeonLanes; }
#else
#include "codec/lanes.h"
namespace tsubu::TSUBU_ISA { using Lanes = PortableLanes; }
#endif
