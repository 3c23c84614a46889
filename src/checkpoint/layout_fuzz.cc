#include <cstdint>

#include "base/progress.h"
#include "checkpoint/layout_fuzz_body.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tsubu::set_quiet(true);
  tsubu::try_layout(std::as_bytes(std::span(data, size)));
  return 0;
}
