// tsubu schemes: number formats, granularities and their usual pairs.
#include "cli/command.h"
#include "cli/output.h"
#include "cli/table.h"
#include "codec/scheme.h"

namespace tsubu {
namespace {

std::string uses(const GranularityInfo& g) {
  std::string text;
  for (const auto& [yes, name] :
       {std::pair(g.for_weights, "weights"), {g.for_activations, "activations"}, {g.for_cache, "cache"}})
    if (yes) text += fmt::format("{}{}", text.empty() ? "" : ", ", name);
  return text;
}

Json schemes_json() {
  Json json;
  json["formats"] = Json::array();
  for (const NumberFormat& f : number_formats())
    json["formats"].push_back(
        Json{{"name", f.name}, {"bits", f.bits}, {"largest", f.largest()}, {"summary", f.summary}});
  json["granularities"] = Json::array();
  for (const GranularityInfo& g : granularities())
    json["granularities"].push_back(Json{{"name", g.name},
                                         {"weights", g.for_weights},
                                         {"activations", g.for_activations},
                                         {"cache", g.for_cache},
                                         {"summary", g.summary}});
  json["schemes"] = Json::array();
  for (const SchemePreset& p : scheme_presets())
    json["schemes"].push_back(Json{{"name", p.name},
                                   {"weights", p.weights},
                                   {"activations", p.activations},
                                   {"outliers", p.outliers},
                                   {"summary", p.summary}});
  return json;
}

Action declare(CLI::App&) {
  return [](const CommonOptions& common) {
    if (common.json) {
      print_json(schemes_json());
      return ExitCode::kDone;
    }
    Table presets({"scheme", "weights", "activations", "what"});
    for (const SchemePreset& p : scheme_presets())
      presets.add({std::string(p.name), std::string(p.weights),
                   p.activations.empty() ? "-" : std::string(p.activations), std::string(p.summary)});
    Table formats({"format", ">bits", ">largest", "what"});
    for (const NumberFormat& f : number_formats())
      formats.add(
          {std::string(f.name), fmt::format("{}", f.bits), fmt::format("{:g}", f.largest()), std::string(f.summary)});
    Table cuts({"granularity", "of", "what"});
    for (const GranularityInfo& g : granularities()) cuts.add({std::string(g.name), uses(g), std::string(g.summary)});
    print_out(presets.text() + "\nA scheme is FORMAT:GRANULARITY, such as int8:channel or fp8_e4m3:group=128.\n\n" +
              formats.text() + "\n" + cuts.text());
    return ExitCode::kDone;
  };
}

}  // namespace

extern const Command kSchemesCommand;
const Command kSchemesCommand = {"schemes", "", "Number formats and granularities of simulated quantization",
                                 "tsubu schemes\ntsubu eval base.gguf --ref base.gguf --text heldout.txt --scheme W8A8",
                                 declare};

}  // namespace tsubu
