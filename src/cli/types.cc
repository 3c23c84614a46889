// tsubu types: the list of codecs.
#include "cli/command.h"
#include "cli/output.h"
#include "cli/table.h"
#include "codec/type_info.h"

namespace tsubu {
namespace {

Json types_json() {
  Json json;
  json["types"] = Json::array();
  for (const TypeInfo& type : types())
    json["types"].push_back(Json{{"name", type.name},
                                 {"gguf_id", type.gguf_id},
                                 {"block_len", type.block_len},
                                 {"block_bytes", type.block_bytes},
                                 {"bits_per_weight", type.bits_per_weight()},
                                 {"is_quantized", type.is_quantized},
                                 {"can_encode", type.encode != nullptr},
                                 {"max_relative_error", type.max_relative_error},
                                 {"summary", type.summary}});
  return json;
}

Action declare(CLI::App&) {
  return [](const CommonOptions& common) {
    if (common.json) {
      print_json(types_json());
      return ExitCode::kDone;
    }
    Table table({"type", ">bits per weight", ">block", "encode", ">max error", "what"});
    for (const TypeInfo& type : types())
      table.add({std::string(type.name), fmt::format("{:.4f}", type.bits_per_weight()), fmt::format("{}", type.block_len),
                 type.encode ? "yes" : "no", type.max_relative_error > 0 ? fmt::format("{:.4g}", type.max_relative_error) : "-",
                 std::string(type.summary)});
    print_out(table.text());
    print_out("\nmax error: bound of |x̂ − x| over the largest |x| of the block\n");
    return ExitCode::kDone;
  };
}

}  // namespace

extern const Command kTypesCommand;
const Command kTypesCommand = {"types", "", "The numeric formats", "tsubu types --json", declare};

}  // namespace tsubu
