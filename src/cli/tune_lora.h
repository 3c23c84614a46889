// The options of `tsubu tune --lora` and what they do; cli/tune.cc is the command.
#pragma once

#include <memory>

#include "cli/command.h"

namespace tsubu {

struct TuneLoraOptions;
// Declares --lora and what belongs to it alone.
std::shared_ptr<TuneLoraOptions> declare_tune_lora(CLI::App& app);
bool wants_lora(const TuneLoraOptions& options);
// Options that the methods of `tune` share.
struct TuneShared {
  std::string model, output;
  std::vector<std::string> texts;
  uint32_t context = 0;     // 0: not given
  uint32_t max_chunks = 0;  // 0: all
  int epochs = 0;           // 0: not given
  double rate = 0;          // 0: not given
  uint64_t seed = 1;
};
ExitCode run_tune_lora(const TuneLoraOptions& options, const TuneShared& shared, const CommonOptions& common);

}  // namespace tsubu
