// tsubu inspect: what is in a model's files.
#include <memory>

#include "base/size.h"
#include "cli/command.h"
#include "cli/inspection.h"
#include "cli/output.h"
#include "cli/table.h"
#include "hub/model.h"

namespace tsubu {
namespace {

struct Options {
  std::string model;
  bool tensors = false, metadata = false;
};

void print_pairs(const std::string& title, const Json& object) {
  if (object.empty()) return;
  Table table({"", ""});
  for (const auto& [key, value] : object.items())
    table.add({key, printable(value.is_string() ? value.get<std::string>()
                                                : value.dump(-1, ' ', false, Json::error_handler_t::replace))});
  print_out("\n" + title + "\n" + table.text(2));
}

void print_summary(const Inspection& in) {
  print_out(fmt::format("{}: {}, architecture {}{}\n\n", in.path,
                        in.layout == "gguf" ? fmt::format("GGUF version {}", in.version) : in.layout == "hf"   ? "Hugging Face directory"
                                             : "Hugging Face directory, layout " + in.layout,
                        in.architecture.empty() ? "not given" : printable(in.architecture),
                        in.name.empty() ? "" : ", \"" + printable(in.name) + "\""));
  Table facts({"", ""});
  facts.add({"files", fmt::format("{}, {}", in.files.size(), format_size(in.size_bytes))});
  facts.add({"weights", fmt::format("{} in {} tensors", format_count(in.n_weights), in.tensors.size())});
  facts.add({"bits per weight", fmt::format("{:.4f} ({} without {} of metadata)", in.bits_per_weight(),
                                            format_size(in.data_bytes), format_size(in.size_bytes - in.data_bytes))});
  print_out(facts.text(2));

  Table types({"type", ">tensors", ">weights", ">size", ">bits per weight"});
  for (const TypeShare& share : in.types())
    types.add({share.type, fmt::format("{}", share.n_tensors), format_count(share.n_weights),
               format_size(share.size_bytes), fmt::format("{:.4f}", share.bits_per_weight())});
  if (!types.empty()) print_out("\nTypes\n" + types.text(2));
}

void print_tensors(const Inspection& in) {
  Table table({"tensor", "type", ">shape", ">size"});
  for (const InspectedTensor& tensor : in.tensors)
    table.add({printable(tensor.name), tensor.type, format_shape(tensor.shape), format_size(tensor.size_bytes)});
  print_out("\nTensors (rows × columns)\n" + table.text(2));
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "GGUF file, Hugging Face directory or org/name of the hub")->required()->type_name(" ");
  app.add_flag("--tensors", o->tensors, "List every tensor");
  app.add_flag("--metadata", o->metadata, "List all metadata, not the hyper-parameters alone");
  return [o](const CommonOptions& common) {
    const Inspection inspection = inspect(model_path(o->model));
    if (common.json) {
      print_json(to_json(inspection));
      return ExitCode::kDone;
    }
    print_summary(inspection);
    print_pairs(o->metadata ? "Metadata" : "Hyper-parameters",
                o->metadata ? inspection.metadata : inspection.hyper_parameters);
    if (o->tensors) print_tensors(inspection);
    return ExitCode::kDone;
  };
}

}  // namespace

extern const Command kInspectCommand;
const Command kInspectCommand = {"inspect", "MODEL", "Metadata, tensors, types and true bits per weight",
                                 "tsubu inspect model.gguf --tensors", declare};

}  // namespace tsubu
