// tsubu tune --lora: its own options, and what it does.
#pragma once

#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/tune_options.h"

namespace tsubu {

struct TuneLoraOptions {
  std::string spec, init = "default", float_model;
  std::vector<std::string> chats;
  double max_norm = 1;
  bool no_pack = false;
};

void declare_tune_lora(CLI::App& app, TuneLoraOptions& options);
ExitCode run_tune_lora(const TuneOptions& options, const TuneLoraOptions& lora, const CommonOptions& common);

}  // namespace tsubu
