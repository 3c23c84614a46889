// tsubu convert: any layout to GGUF, without quantizing.
#include <memory>

#include "cli/command.h"
#include "cli/output.h"
#include "cli/quantize_report.h"
#include "pipeline/quantize.h"

namespace tsubu {
namespace {

struct Options {
  std::string model, output, dtype;
};

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "GGUF file or Hugging Face directory")->required()->type_name(" ");
  app.add_option("-o,--output", o->output, "GGUF file to write")->required()->type_name("OUT");
  app.add_option("--dtype", o->dtype, "F32, F16 or BF16 for every matrix (default: as they are)")
      ->type_name("TYPE")
      ->transform(CLI::IsMember({"F32", "F16", "BF16"}, CLI::ignore_case).description(""));
  return [o](const CommonOptions& common) {
    const auto model = Model::open(o->model);
    const QuantizeResult result = convert(*model, o->output, o->dtype, common.threads);
    if (common.json)
      print_json(to_json(result));
    else
      print_out(quantize_report(result, o->output, false));
    return ExitCode::kDone;
  };
}

}  // namespace

extern const Command kConvertCommand;
const Command kConvertCommand = {"convert", "MODEL -o OUT", "Between layouts and float types, as GGUF",
                                 "tsubu convert hf_directory -o model-f16.gguf --dtype F16", declare};

}  // namespace tsubu
