#include "cli/effort.h"

#include "base/error.h"

namespace tsubu {
namespace {

constexpr CalibrationEffort kEfforts[] = {
    {"fast", 0, 0, 0, 0}, {"default", uint64_t{1} << 16, 2, 0, 0}, {"best", uint64_t{1} << 18, 4, uint64_t{1} << 16, 2}};

}  // namespace

const CalibrationEffort& calibration_effort(const std::string& name) {
  for (const CalibrationEffort& e : kEfforts)
    if (e.name == name) return e;
  fail(ExitCode::kUsage, "--effort {}: expected fast, default or best", name);
}

}  // namespace tsubu
