// Errors that end a command or a request. An error says where, what, expected, found and what to do; its kind is the
// process's exit code, so that scripts can tell bad input from a full disk.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace tsubu {

enum class ExitCode : int {
  kDone = 0,
  kGateFailed = 1,
  kUsage = 2,
  kBadInput = 3,
  kIo = 4,
  kUnsupported = 5,
  kNumeric = 6,
  kInterrupted = 130,
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// Throws Error with a formatted message: fail(ExitCode::kBadInput, "{}@{:#x}: …", path, offset).
template <class... Args>
[[noreturn]] void fail(ExitCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace tsubu
