#include <cstdint>

#include "text/fuzz_bodies.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tsubu::try_tokenizer_json(std::as_bytes(std::span(data, size)));
  return 0;
}
