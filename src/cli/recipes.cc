// tsubu recipes: the stock recipes, or one of them as JSON.
#include <memory>

#include "cli/command.h"
#include "cli/output.h"
#include "cli/table.h"
#include "plan/recipe.h"

namespace tsubu {
namespace {

Action declare(CLI::App& app) {
  auto name = std::make_shared<std::string>();
  app.add_option("NAME", *name, "Print this recipe as JSON")->type_name(" ");
  return [name](const CommonOptions& common) {
    if (!name->empty()) {
      print_json(to_json(recipe_named(*name)));
      return ExitCode::kDone;
    }
    if (common.json) {
      Json json;
      json["recipes"] = Json::array();
      for (const Recipe& recipe : recipes()) json["recipes"].push_back(to_json(recipe));
      print_json(json);
      return ExitCode::kDone;
    }
    Table table({"recipe", "default type", ">rules", "needs --stats", "what"});
    for (const Recipe& recipe : recipes())
      table.add({recipe.name, recipe.default_type, fmt::format("{}", recipe.rules.size()), recipe.needs_stats ? "yes" : "",
                 recipe.summary});
    print_out(table.text());
    return ExitCode::kDone;
  };
}

}  // namespace

extern const Command kRecipesCommand;
const Command kRecipesCommand = {"recipes", "[NAME]", "The stock recipes: which type each tensor gets",
                                 "tsubu recipes Q4_K_M > my_recipe.json", declare};

}  // namespace tsubu
