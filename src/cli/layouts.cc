// tsubu layouts: the ways quantized weights lie in safetensors files, and the schemes that can be written into them.
#include "cli/command.h"
#include "cli/output.h"
#include "cli/table.h"
#include "pipeline/layout_schemes.h"

namespace tsubu {
namespace {

Action declare(CLI::App&) {
  return [](const CommonOptions& common) {
    Json json;
    json["layouts"] = Json::array();
    json["schemes"] = Json::array();
    Table table({"layout", "quant_method", "written", "what"});
    std::string stores;
    for (const Layout* layout : layouts()) {
      json["layouts"].push_back(Json{{"name", layout->name},
                                     {"method", layout->method},
                                     {"summary", layout->summary},
                                     {"stores", layout->stores},
                                     {"can_write", layout->store != nullptr}});
      table.add({std::string(layout->name), std::string(layout->method), layout->store ? "yes" : "read only",
                 std::string(layout->summary)});
      stores += fmt::format("  {}: {}\n", layout->name, layout->stores);
    }
    Table schemes({"--format", "--to", "layout", "what"});
    std::string_view last;
    for (const LayoutScheme& s : layout_schemes()) {
      json["schemes"].push_back(Json{{"method", s.method},
                                     {"name", s.name},
                                     {"layout", s.layout},
                                     {"format", s.format},
                                     {"summary", s.summary},
                                     {"is_default", s.method != last}});
      schemes.add({std::string(s.method == last ? "" : s.method), std::string(s.name), std::string(s.layout),
                   std::string(s.summary)});
      last = s.method;
    }
    if (common.json)
      print_json(json);
    else
      print_out(table.text() + "\nTensors of a module (N outputs, K inputs, G groups, b bits)\n" + stores +
                "\nWritten by quantize and convert (the first of each is its default)\n" + schemes.text(2));
    return ExitCode::kDone;
  };
}

}  // namespace

extern const Command kLayoutsCommand;
const Command kLayoutsCommand = {"layouts", "", "The layouts of quantized safetensors", "tsubu layouts", declare};

}  // namespace tsubu
