#include <cstdint>

#include "base/progress.h"
#include "model/config_fuzz_body.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tsubu::set_quiet(true);
  tsubu::try_config({reinterpret_cast<const char*>(data), size});
  return 0;
}
