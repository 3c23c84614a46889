// The one list of codecs. To add a format: write its header (pattern: codec/codec.h, example: codec/q4_0.h) and put its
// name here; lookup, kernels, tests and the type table follow. The order is that of `tsubu types`.
#pragma once

#include "codec/bf16.h"
#include "codec/codec.h"
#include "codec/f16.h"
#include "codec/f32.h"
#include "codec/iq1_m.h"
#include "codec/iq1_s.h"
#include "codec/iq2_s.h"
#include "codec/iq2_xs.h"
#include "codec/iq2_xxs.h"
#include "codec/iq3_s.h"
#include "codec/iq3_xxs.h"
#include "codec/iq4_nl.h"
#include "codec/iq4_xs.h"
#include "codec/mxfp4.h"
#include "codec/nvfp4.h"
#include "codec/q1_0.h"
#include "codec/q2_0.h"
#include "codec/q2_k.h"
#include "codec/q3_k.h"
#include "codec/q4_0.h"
#include "codec/q4_1.h"
#include "codec/q4_k.h"
#include "codec/q5_0.h"
#include "codec/q5_1.h"
#include "codec/q5_k.h"
#include "codec/q6_k.h"
#include "codec/q8_0.h"
#include "codec/q8_1.h"
#include "codec/q8_k.h"
#include "codec/storage.h"
#include "codec/tq1_0.h"
#include "codec/tq2_0.h"

namespace tsubu {

using CodecList =
    TypeList<F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS,
             IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, TQ1_0, TQ2_0, MXFP4, NVFP4, Q1_0, Q2_0, Q8_1,
             Q8_K, I8, I16, I32, I64, F64>;

}  // namespace tsubu
