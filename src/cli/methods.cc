// tsubu methods: the list of rounding methods.
#include "round/methods.h"

#include "cli/command.h"
#include "cli/output.h"
#include "cli/table.h"

namespace tsubu {
namespace {

Action declare(CLI::App&) {
  return [](const CommonOptions& common) {
    if (common.json) {
      Json json;
      json["methods"] = Json::array();
      for (const RoundingMethod& m : rounding_methods())
        json["methods"].push_back(Json{{"name", m.name},
                                       {"summary", m.summary},
                                       {"needs", m.needs},
                                       {"formats", m.formats},
                                       {"source", m.source},
                                       {"is_start", m.is_start}});
      json["formats"] = sim_format_examples();
      print_json(json);
      return ExitCode::kDone;
    }
    Table table({"method", "needs", "makes", "what"});
    for (const RoundingMethod& m : rounding_methods())
      table.add({std::string(m.name), std::string(m.needs), std::string(m.formats), std::string(m.summary)});
    Table sources({"method", "source"});
    for (const RoundingMethod& m : rounding_methods()) sources.add({std::string(m.name), std::string(m.source)});
    print_out(table.text() + "\n" + sources.text() + "\nsimulated formats, such as:\n");
    for (const std::string_view spec : sim_format_examples()) print_out(fmt::format("  {}\n", spec));
    return ExitCode::kDone;
  };
}

}  // namespace

extern const Command kMethodsCommand;
const Command kMethodsCommand = {"methods", "", "The rounding methods and simulated formats", "tsubu methods --json",
                                 declare};

}  // namespace tsubu
