// tsubu tune --qat: its own options, and what it does.
#pragma once

#include <memory>

#include "cli/command.h"
#include "cli/tune_options.h"

namespace tsubu {

struct TuneQatOptions {
  std::string to, loss = "kl", products = "f32", start, activations, output_type, embedding_type;
  std::vector<std::string> tensor_types, frozen;
  bool pure = false;
};

void declare_tune_qat(CLI::App& app, TuneQatOptions& options);
ExitCode run_tune_qat(const TuneOptions& options, const TuneQatOptions& qat, const CommonOptions& common);

}  // namespace tsubu
