#include "cli/dispatch.h"

#include <algorithm>

#include "base/progress.h"
#include "base/size.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

std::string overview() {
  std::string text =
      "tsubu makes language models smaller and measures what that costs.\n\n"
      "Usage: tsubu COMMAND [MODEL] [--option value]\n\n"
      "MODEL is a GGUF file (any shard of a split one), a Hugging Face directory, or a model of the hub:\n"
      "org/name[@revision][:GGUF file or type].\n\nCommands:\n";
  for (const Command* command : commands()) text += fmt::format("  {:<10} {}\n", command->name, command->summary);
  text +=
      "\nEvery command has --json, --threads N, --quiet and --help. Exit codes: 0 done, 1 a gate failed, 2 usage,\n"
      "3 bad input, 4 input/output, 5 unsupported, 6 numeric, 130 interrupted.\n\n"
      "Example:\n  tsubu quantize MODEL -o small.gguf --to Q4_K_M\n";
  return text;
}

std::string version() {
  std::string isas;
  for (const Kernels* k : runnable_kernels()) isas += (isas.empty() ? "" : ", ") + std::string(k->isa);
  return fmt::format("tsubu {}\nkernels: {} (this machine runs {})\n", TSUBU_VERSION, kernels().isa, isas);
}

// What is wrong with the first word that no option or argument took; empty when every word was taken.
std::string unexpected_word(const CLI::App& app) {
  const std::vector<std::string> extras = app.remaining();
  if (extras.empty()) return "";
  const auto option = std::find_if(extras.begin(), extras.end(),
                                   [](const std::string& word) { return word.size() > 1 && word[0] == '-'; });
  if (option == extras.end()) return fmt::format("unexpected argument '{}'", extras.front());
  const std::string word = option->substr(0, option->find('=')).substr(0, 64);
  std::vector<std::string> names;
  for (const CLI::Option* known : app.get_options()) {
    for (const std::string& name : known->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : known->get_snames()) names.push_back("-" + name);
  }
  const std::string nearest = nearest_name(word, names.data(), names.size());
  return fmt::format("unknown option '{}'{}", word, nearest.empty() ? "" : ": did you mean '" + nearest + "'?");
}

// CLI11's help with our usage line, and options shown as "--name TYPE" alone.
class HelpFormatter : public CLI::Formatter {
 public:
  explicit HelpFormatter(std::string usage) : usage_(std::move(usage)) { column_width(34); }
  std::string make_usage(const CLI::App*, std::string) const override { return usage_; }
  std::string make_option_opts(const CLI::Option* option) const override {
    const std::string type = option->get_type_name();  // "N:INT in [1 - 1024]": the checks follow the colon
    return type.empty() || type == " " ? "" : " " + type.substr(0, type.find(':'));
  }

 private:
  std::string usage_;
};

std::string examples(const Command& command) {
  std::string text = "Example:";
  std::string_view rest = command.example;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    text += "\n  " + std::string(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return text;
}

ExitCode run_command(const Command& command, std::vector<std::string> words) {
  CLI::App app(std::string(command.summary) + ".", "tsubu " + std::string(command.name));
  app.formatter(std::make_shared<HelpFormatter>(fmt::format(
      "Usage: tsubu {}{}{} [options]\n", command.name, command.usage.empty() ? "" : " ", command.usage)));
  app.footer(examples(command));

  CommonOptions common;
  const Action action = command.declare(app);
  app.add_flag("--json", common.json, "One JSON document on stdout");
  app.add_option("--threads", common.threads, "Worker threads (default: one per processor)")
      ->check(CLI::Range(1, 1024))
      ->type_name("N");
  app.add_flag("--quiet", common.quiet, "No progress and no notes on stderr");

  try {
    std::reverse(words.begin(), words.end());  // CLI11 takes them from the back
    app.parse(std::move(words));
  } catch (const CLI::CallForHelp&) {
    print_out(app.help());
    return ExitCode::kDone;
  } catch (const CLI::ParseError& e) {
    const std::string unexpected = unexpected_word(app);
    fail(ExitCode::kUsage, "{}: {} (see tsubu {} --help)", command.name, unexpected.empty() ? e.what() : unexpected,
         command.name);
  }
  set_quiet(common.quiet);
  return action(common);
}

}  // namespace

ExitCode run_command_line(const std::vector<std::string>& arguments) {
  if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "-h") {
    print_out(overview());
    return ExitCode::kDone;
  }
  if (arguments[0] == "--version") {
    print_out(version());
    return ExitCode::kDone;
  }
  if (arguments[0] == "help") {
    if (arguments.size() < 2) return run_command_line({"--help"});
    return run_command(command_named(arguments[1]), {"--help"});
  }
  if (arguments[0].starts_with("-"))
    fail(ExitCode::kUsage, "unknown option '{}': the command comes first (tsubu --help lists the commands)",
         arguments[0].substr(0, 64));
  return run_command(command_named(arguments[0]), {arguments.begin() + 1, arguments.end()});
}

}  // namespace tsubu
