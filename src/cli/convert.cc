// tsubu convert: from any layout to GGUF or to a Hugging Face layout, without rounding anew where the grids agree.
#include <memory>

#include "base/file.h"
#include "base/size.h"
#include "cli/adapter_options.h"
#include "cli/command.h"
#include "cli/layout_output.h"
#include "cli/manifest_options.h"
#include "cli/output.h"
#include "cli/quantize_report.h"
#include "hub/model.h"
#include "pipeline/quantize.h"

namespace tsubu {
namespace {

struct Options {
  std::vector<std::string> adapters;
  std::string model, output, dtype, format = "gguf";
  LayoutOutputOptions layout;
  bool no_manifest = false;
};

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "GGUF file, Hugging Face directory or org/name of the hub")->required()->type_name(" ");
  declare_adapters(app, o->adapters);
  app.add_option("-o,--output", o->output, "GGUF file to write, or with --format a new directory")
      ->required()
      ->type_name("OUT");
  app.add_option("--dtype", o->dtype, "F32, F16 or BF16 for every matrix (default: as they are)")
      ->type_name("TYPE")
      ->transform(CLI::IsMember({"F32", "F16", "BF16"}, CLI::ignore_case).description(""));
  app.add_option("--format", o->format, "gguf (default), hf (floats), or a quantized layout (tsubu layouts)")
      ->type_name("FORMAT");
  app.add_option("--to", o->layout.to, "Scheme of the layout (default: the source's own, else the layout's first)")
      ->type_name("SCHEME");
  declare_layout_options(app, o->layout);
  app.add_flag("--no-manifest", o->no_manifest, "Write no manifest (how the output was made)");
  return [o, &app](const CommonOptions& common) {
    const auto model = open_adapted(o->model, o->adapters);
    if (o->format != "gguf") {
      WriteLayoutOptions options = layout_options(o->layout, o->format, common);
      options.output = o->output;
      options.command = "convert";
      options.given_options = given_options(app);
      options.write_manifest = !o->no_manifest;
      options.dtype = o->dtype;
      if (options.scheme && o->layout.to.empty()) adopt_source_scheme(*model, options);
      print_layout_result(write_layout(*model, options), o->output, common);
      return ExitCode::kDone;
    }
    const QuantizeResult result = convert(*model, o->output, o->dtype, common.threads, !o->no_manifest);
    if (!o->no_manifest)
      write_text_file(manifest_path(o->output), dump_json(manifest_json("convert", given_options(app), *model, result, o->output)));
    if (common.json)
      print_json(to_json(result));
    else
      print_out(quantize_report(result, o->output, false));
    return ExitCode::kDone;
  };
}

}  // namespace

extern const Command kConvertCommand;
const Command kConvertCommand = {"convert", "MODEL -o OUT", "Between layouts and float types",
                                 "tsubu convert hf_directory -o model-f16.gguf --dtype F16\n"
                                 "tsubu convert awq_directory --format gptq -o gptq_directory\n"
                                 "tsubu convert gptq_directory --format hf -o float_directory",
                                 declare};

}  // namespace tsubu
