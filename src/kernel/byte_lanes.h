// The byte vocabulary of the ISA this translation unit is compiled for (as kernel/lanes.h).
#pragma once

#include "kernel/lanes.h"

#if defined(TSUBU_ISA_AVX512)
#include "kernel/byte_lanes_avx512.h"
namespace tsubu::TSUBU_ISA { using Bytes = Avx512Bytes; }
#elif defined(TSUBU_ISA_AVX2)
#include "kernel/byte_lanes_avx2.h"
namespace tsubu::TSUBU_ISA { using Bytes = Avx2Bytes; }
#else
#include "codec/byte_lanes.h"
namespace tsubu::TSUBU_ISA { using Bytes = PortableBytes; }
#endif
