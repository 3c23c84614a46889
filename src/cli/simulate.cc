// tsubu simulate: what a format that is no GGUF type would do to a model, as a float GGUF.
#include "pipeline/simulate.h"

#include <memory>
#include <optional>

#include "base/progress.h"
#include "base/size.h"
#include "cli/checks.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/table.h"
#include "hub/model.h"
#include "round/methods.h"

namespace tsubu {
namespace {

struct Options {
  std::string model, format, method = "search", stats;
  int passes = 8;
  SimulateOptions simulate;
};

std::string percent(double share) { return share < 0 ? "-" : fmt::format("{:.4f} %", 100 * share); }

void print_result(const SimulateResult& r, const Options& o, const SimFormat& format) {
  Table table({"tensor", ">shape", ">bits per weight", ">weight error", ">output error"});
  for (const SimulatedTensor& t : r.tensors)
    table.add({t.name, format_shape(t.shape), fmt::format("{:.4f}", t.bits_per_weight), percent(t.rel_rmse),
               percent(t.rel_output)});
  table.add({"all", format_count(r.n_weights), fmt::format("{:.4f}", r.bits_per_weight), percent(r.rel_rmse),
             percent(r.rel_output)});
  print_out(table.text());
  print_out(fmt::format("{} by {}: {}, {} as {}, in {}\n", format.name(), o.method, o.simulate.output,
                        format_size(r.size_bytes), o.simulate.type, format_duration(r.seconds)));
  for (const std::string& text : r.notes) note(text);
}

ExitCode run(const Options& o, const CommonOptions& common) {
  SimulateOptions options = o.simulate;
  options.format = SimFormat::parse(o.format);
  options.method = parse_sim_method(o.method, o.passes);
  options.n_threads = common.threads;
  std::optional<Statistics> stats;
  if (!o.stats.empty()) stats = Statistics::open(o.stats);
  options.stats = stats ? &*stats : nullptr;
  const auto model = Model::open(model_path(o.model));
  const SimulateResult result = simulate(*model, options);
  if (common.json) {
    Json json = to_json(result);
    json["model"] = o.model;
    json["output"] = options.output;
    json["format"] = options.format.name();
    json["method"] = o.method;
    print_json(json);
  } else {
    print_result(result, o, options.format);
  }
  return ExitCode::kDone;
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "GGUF file, Hugging Face directory or org/name of the hub")->required()->type_name(" ");
  app.add_option("--format", o->format, "Such as int4:group=128 (tsubu methods lists them)")
      ->required()
      ->type_name("SPEC");
  app.add_option("--method", o->method, "Rounding method, also METHOD+refine (default search)")->type_name("METHOD");
  app.add_option("--stats", o->stats, "Statistics from tsubu calibrate, with --gram for gptq and refine")
      ->type_name("S.gguf");
  app.add_option("-o,--output", o->simulate.output, "GGUF file to write: the values as floats")
      ->required()
      ->type_name("OUT");
  app.add_option("--dtype", o->simulate.type, "F32 (default) or F16")->type_name("TYPE");
  app.add_option("--damping", o->simulate.damping,
                 "Added to the Gram matrix, share of its mean diagonal (default 0.01)")
      ->check(number_between(0, 1e6))
      ->type_name("X");
  app.add_option("--passes", o->passes, "Passes of the descent (default 8)")
      ->check(CLI::Range(1, 1000))
      ->type_name("N");
  app.add_flag("--all", o->simulate.all, "The head and the token embedding too");
  return [o](const CommonOptions& common) { return run(*o, common); };
}

}  // namespace

extern const Command kSimulateCommand;
const Command kSimulateCommand = {
    "simulate", "MODEL --format SPEC -o OUT", "Round to a format that is no GGUF type, for eval",
    "tsubu simulate model-f16.gguf --format int4:group=128 --method gptq+refine --stats s.gguf "
    "-o int4.gguf\ntsubu eval int4.gguf --ref model-f16.gguf --text heldout.txt",
    declare};

}  // namespace tsubu
