// What a subcommand is: a name, a summary, and a function that declares its options on a CLI11 parser and returns what
// to do once they are read. One file per command; the list is in commands.cc.
#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <string_view>

#include "base/error.h"

namespace tsubu {

// Options that every command has.
struct CommonOptions {
  bool json = false;   // exactly one JSON document on stdout
  bool quiet = false;  // no progress, no notes
  int threads = 0;     // 0: one per processor
};

using Action = std::function<ExitCode(const CommonOptions&)>;

struct Command {
  std::string_view name;
  std::string_view usage;    // what follows the name on a command line
  std::string_view summary;  // one line
  std::string_view example;  // complete command lines, one a line
  Action (*declare)(CLI::App& app);
};

}  // namespace tsubu
