// For tests: how something fails.
#pragma once

#include <functional>

#include "base/error.h"

namespace tsubu {

// The code of the Error that f throws; kDone when it throws none.
inline ExitCode code_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.code();
  }
  return ExitCode::kDone;
}

}  // namespace tsubu
