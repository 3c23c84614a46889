// tsubu diff: how far the weights of one model are from another's, across layouts.
#include "pipeline/diff.h"

#include <cmath>
#include <memory>
#include <optional>

#include "cli/command.h"
#include "cli/output.h"
#include "cli/table.h"
#include "hub/model.h"

namespace tsubu {
namespace {

struct Options {
  std::string a, b, stats;
  size_t top = 0;
};

std::string percent(double share) { return share < 0 ? "-" : fmt::format("{:.4g} %", 100 * share); }

void print_result(const DiffResult& r, const Options& o) {
  const bool weighted = r.rel_weighted >= 0;
  Table table({"tensor", "A", "B", ">bits A", ">bits B", ">relative L2", ">weighted", ">SNR", ">largest", ">differ"});
  size_t shown = 0;
  for (const TensorDistance& d : r.tensors) {
    if (o.top > 0 && shown++ == o.top) break;
    const double share = static_cast<double>(d.n_differ);
    uint64_t n = 1;
    for (uint64_t dim : d.shape) n *= dim;
    table.add({d.name, d.type_a, d.type_b, fmt::format("{:.3f}", d.bits_a), fmt::format("{:.3f}", d.bits_b),
               percent(d.rel_l2), percent(d.rel_weighted), d.rel_l2 > 0 ? fmt::format("{:.1f} dB", d.snr_db) : "equal",
               fmt::format("{:.3g}", d.max_abs), percent(share / static_cast<double>(n))});
  }
  print_out(table.text());
  for (const auto& [names, where] : {std::pair(&r.only_a, &o.a), std::pair(&r.only_b, &o.b)})
    if (!names->empty())
      print_out(fmt::format("only in {}: {}\n", *where, fmt::join(*names, ", ")));
  print_out(fmt::format("\nall: relative L2 {}{}, {} of {} weights differ, {:.4f} and {:.4f} bits per weight\n",
                        percent(r.rel_l2), weighted ? ", weighted " + percent(r.rel_weighted) : "",
                        format_count(r.n_differ), format_count(r.n_weights), r.bits_a, r.bits_b));
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("A", o->a, "GGUF file, Hugging Face directory or org/name of the hub: the reference")->required()->type_name(" ");
  app.add_option("B", o->b, "The other one")->required()->type_name(" ");
  app.add_option("--stats", o->stats, "Importance matrix: errors weighted by the mean squares of the inputs")
      ->type_name("F");
  app.add_option("--top", o->top, "Only the N worst tensors")->type_name("N");
  return [o](const CommonOptions& common) {
    const auto a = Model::open(model_path(o->a)), b = Model::open(model_path(o->b));
    std::optional<Imatrix> stats;
    if (!o->stats.empty()) stats = Imatrix::load(o->stats);
    ThreadPool pool(common.threads);
    const DiffResult result = diff_models(*a, *b, stats ? &*stats : nullptr, pool);
    if (common.json)
      print_json(to_json(result));
    else
      print_result(result, *o);
    return ExitCode::kDone;
  };
}

}  // namespace

extern const Command kDiffCommand;
const Command kDiffCommand = {"diff", "A B", "Weights of two models, tensor by tensor, the worst first",
                              "tsubu diff model-f16.gguf gptq_directory --stats imatrix.gguf --top 10", declare};

}  // namespace tsubu
