// How the result of quantize and convert is shown: types, worst tensors, notes, size, time.
#pragma once

#include <string>

#include "pipeline/quantize.h"

namespace tsubu {

// output: the file's name, for the last line. dry_run: nothing was written.
std::string quantize_report(const QuantizeResult& result, const std::string& output, bool dry_run);

}  // namespace tsubu
