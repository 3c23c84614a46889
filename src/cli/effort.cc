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

void declare_calibration_windows(CLI::App& app, CorpusOptions& corpus) {
  app.add_option("--ctx", corpus.context, "Tokens of a calibration window (default 512)")
      ->check(CLI::Range(8, 1 << 20))
      ->type_name("N");
  app.add_option("--chunks", corpus.max_chunks, "Calibration windows at most (default: 65536 tokens of them)")
      ->check(CLI::Range(1, 1 << 30))
      ->type_name("N");
}

}  // namespace tsubu
