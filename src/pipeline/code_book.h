// Codes that layouts store for the levels of a simulated format: integers as they are, floats by their bits, tables by index.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "codec/bitsandbytes.h"
#include "codec/number_format.h"
#include "round/sim_format.h"

namespace tsubu {

class CodeBook {
 public:
  explicit CodeBook(const SimFormat& format) : format_(format) {
    if (format.family == "fp8_e4m3") number_ = find_number_format("fp8_e4m3");
    if (format.family == "mxfp4" || format.family == "nvfp4") number_ = find_number_format("fp4_e2m1");
  }
  uint8_t code(float level) const {
    if (number_) return number_->encode(level);
    if (format_.family == "int") {  // asymmetric ones count from 0
      const int offset = format_.zero == SimZero::kNone ? 0 : 1 << (format_.code_bits - 1);
      return static_cast<uint8_t>(static_cast<int8_t>(static_cast<int>(level) - offset));
    }
    if (format_.family == "nf4")
      return static_cast<uint8_t>(std::lower_bound(std::begin(kNf4Map), std::end(kNf4Map), level) - std::begin(kNf4Map));
    for (uint8_t c = 0; c < 8; ++c)
      if (kFp4Magnitudes[c] == std::fabs(level)) return static_cast<uint8_t>(level < 0 ? c + 8 : c);
    return 0;
  }
  int8_t zero(float zero) const { return static_cast<int8_t>(static_cast<int>(zero) - (1 << (format_.code_bits - 1))); }

 private:
  const SimFormat& format_;
  const NumberFormat* number_ = nullptr;
};

}  // namespace tsubu
