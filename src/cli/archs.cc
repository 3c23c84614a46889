// tsubu archs: the architectures that are known.
#include "cli/command.h"
#include "cli/output.h"
#include "cli/table.h"
#include "model/architecture.h"

namespace tsubu {
namespace {

Action declare(CLI::App&) {
  return [](const CommonOptions& common) {
    Json json;
    json["archs"] = Json::array();
    Table table({"architecture", "Hugging Face names", "what"});
    for (const Architecture* architecture : architectures()) {
      const auto names = architecture->hf_architectures();
      json["archs"].push_back(Json{{"name", architecture->name()},
                                   {"hf_architectures", std::vector<std::string>(names.begin(), names.end())},
                                   {"summary", architecture->summary()}});
      std::string joined;
      for (std::string_view name : names) joined += (joined.empty() ? "" : ", ") + std::string(name);
      table.add({std::string(architecture->name()), joined, std::string(architecture->summary())});
    }
    if (common.json)
      print_json(json);
    else
      print_out(table.text());
    return ExitCode::kDone;
  };
}

}  // namespace

extern const Command kArchsCommand;
const Command kArchsCommand = {"archs", "", "The architectures that are known", "tsubu archs", declare};

}  // namespace tsubu
