#include "cli/commands.h"

#include <string>
#include <vector>

#include "base/size.h"

namespace tsubu {

// To add a command: write its file and put its name in both of these lines' lists.
extern const Command kInspectCommand, kConvertCommand, kCalibrateCommand, kTransformCommand, kQuantizeCommand,
    kPlanCommand, kSimulateCommand, kEvalCommand, kCertifyCommand, kBenchCommand, kReportCommand, kRunCommand, kTokenizeCommand,
    kTypesCommand, kSchemesCommand, kMethodsCommand, kRecipesCommand, kArchsCommand, kLensCommand, kLayoutsCommand, kDiffCommand,
    kLintCommand, kExplainCommand, kServeCommand, kHubCommand, kGradientCommand, kTuneCommand, kVerifyCommand;

std::span<const Command* const> commands() {
  static constexpr const Command* kCommands[] = {
      &kInspectCommand,  &kLintCommand,    &kDiffCommand,    &kConvertCommand,  &kCalibrateCommand, &kTransformCommand,
      &kQuantizeCommand, &kPlanCommand,    &kSimulateCommand, &kEvalCommand,    &kCertifyCommand,   &kLensCommand,
      &kBenchCommand,    &kReportCommand,  &kRunCommand,     &kTokenizeCommand, &kTypesCommand,     &kSchemesCommand,
      &kMethodsCommand,  &kRecipesCommand, &kArchsCommand,   &kLayoutsCommand,  &kExplainCommand,
      &kServeCommand,    &kHubCommand,    &kGradientCommand,    &kTuneCommand,    &kVerifyCommand,
  };
  return kCommands;
}

const Command& command_named(std::string_view name) {
  std::vector<std::string> names;
  for (const Command* command : commands()) {
    if (command->name == name) return *command;
    names.emplace_back(command->name);
  }
  const std::string nearest = nearest_name(name.substr(0, 64), names.data(), names.size());
  fail(ExitCode::kUsage, "unknown command '{}'{} (tsubu --help lists the commands)", name.substr(0, 64),
       nearest.empty() ? "" : ": did you mean '" + nearest + "'?");
}

}  // namespace tsubu
