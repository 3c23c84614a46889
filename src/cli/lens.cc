// tsubu lens: what perturbations do to a model.
#include <filesystem>
#include <memory>

#include "base/file.h"
#include "base/progress.h"
#include "base/size.h"
#include "calibrate/corpus.h"
#include "cli/checks.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/table.h"
#include "hub/model.h"
#include "lens/study.h"

namespace tsubu {
namespace {

struct Options {
  std::string model, output, language = "en";
  std::vector<std::string> texts, held_out, types;
  CorpusOptions corpus;
  uint32_t windows = 8, held_windows = 0;
  bool each_window = false;
  StudyOptions study;
};

// Windows spread over the texts.
std::vector<std::vector<TokenId>> spread_windows(const Corpus& corpus, size_t n) {
  std::vector<std::vector<TokenId>> windows;
  const size_t all = corpus.chunks.size(), count = std::min(n, all);
  for (size_t i = 0; i < count; ++i) windows.push_back(corpus.chunks[i * all / count]);
  return windows;
}

void print_gradients(const GradientStudy& study) {
  Table alphas({"tensor", ">sensitivity by probe", ">by gradients"});
  for (const TensorPrediction& t : study.tensors)
    alphas.add({t.name, fmt::format("{:.3g} ±{:.0f} %", t.probe_alpha, 100 * t.probe_spread),
                fmt::format("{:.3g} ±{:.0f} %", t.fisher_alpha, 100 * t.fisher_spread)});
  if (!alphas.empty()) print_out("\n" + alphas.text(2));
  Table table({"prediction", ">costs", ">rank correlation", ">in one type", ">correlation of ln", ">measured/predicted", ">scatter"});
  for (const Agreement& a : study.agreements)
    table.add({std::string(a.predictor), fmt::format("{}", a.n), fmt::format("{:.3f}", a.spearman), fmt::format("{:.3f}", a.within),
               fmt::format("{:.3f}", a.pearson), fmt::format("{:.3g}", a.level), fmt::format("{:.0f} %", 100 * a.scatter)});
  if (!table.empty()) print_out("\n" + table.text(2));
  print_out(fmt::format("sensitivities from {} windows: noise probes {}, backward passes {} ({} more for the text's gradient); {} costs of single tensors "
                        "measured on {} windows in {}\n",
                        study.n_windows, format_duration(study.probe_seconds), format_duration(study.fisher_seconds),
                        format_duration(study.gradient_seconds), study.n_costs - study.n_left_out, study.n_held_windows,
                        format_duration(study.harm_seconds)));
}

void print_study(const Study& study) {
  for (const Remark& said : findings(study)) print_out("* " + said.text + "\n");
  Table table({"codec", ">r", ">divergence", ">equivalent r", ">efficiency", ">same top token"});
  for (const auto& [cell, r] : study.cells) {
    if (cell.part != "codecs") continue;
    const auto noise = equivalent_noise(study, r.kld);
    table.add({cell.perturbation.name(), fmt::format("{:.4f}", r.r), fmt::format("{:.3g}", r.kld),
               noise ? fmt::format("{:.4f}", *noise) : "-", noise ? fmt::format("{:.2f}", *noise / r.r) : "-",
               fmt::format("{:.2f} %", 100 * r.top1)});
  }
  if (!table.empty()) print_out("\n" + table.text(2));
  if (study.gradients) print_gradients(*study.gradients);
  print_out(fmt::format("{} windows of {} tokens, second half of each scored ({}), f32; {} of {} cells and {} tensors of the map measured, {} of them in an earlier run, in {}\n",
                        study.n_windows, study.context, study.n_tokens_scored, study.cells.size(), study.n_cells,
                        study.sensitivities.size(), study.n_resumed, format_duration(study.seconds)));
}

ExitCode run(const Options& o, const CommonOptions& common) {
  const Language language = language_named(o.language);
  const auto model = Model::open(model_path(o.model));
  CorpusOptions corpus_options = o.corpus;
  check_can_create(o.output);
  for (const std::string& text : o.texts) corpus_options.texts.push_back(parse_corpus_text(text));
  const Corpus corpus = read_corpus(*model, corpus_options);
  const auto windows = spread_windows(corpus, o.windows);
  StudyOptions options = o.study;
  options.text_hash = corpus.hash;
  for (const std::string& name : o.types) options.types.push_back(&type_named(name));
  if (!options.gradients && (!o.types.empty() || !o.held_out.empty() || o.held_windows > 0))
    fail(ExitCode::kUsage, "--types, --held-out and --held-windows are about the costs of single tensors: add --gradients");
  std::vector<std::vector<TokenId>> held;
  if (!o.held_out.empty()) {
    CorpusOptions held_options = o.corpus;
    for (const std::string& text : o.held_out) held_options.texts.push_back(parse_corpus_text(text));
    const Corpus other = read_corpus(*model, held_options);
    held = spread_windows(other, o.held_windows > 0 ? o.held_windows : o.windows);
    options.held = held;
    options.text_hash += fmt::format(" {} {}", other.hash, held.size());
  } else if (o.held_windows > 0) {
    fail(ExitCode::kUsage, "--held-windows {}: of which text? add --held-out F", o.held_windows);
  }
  options.each_token = !o.each_window;
  if (!o.output.empty()) options.work_path = o.output + ".tsubu-work.json";
  ThreadPool pool(common.threads);
  const Study study = run_study(*model, windows, options, pool);
  if (!o.output.empty()) {
    AtomicFile page(o.output);
    page.write(study_page(study, Words(language)));
    page.commit();
    if (study.left_out.empty()) {
      std::error_code ignored;
      std::filesystem::remove(options.work_path, ignored);
    } else {
      note(fmt::format("{}: finished cells stay here; the same command goes on from them", options.work_path));
    }
  }
  if (common.json)
    print_json(to_json(study));
  else
    print_study(study);
  if (!o.output.empty() && !common.json) print_out(o.output + ": the page with all figures and numbers\n");
  return ExitCode::kDone;
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "GGUF file, Hugging Face directory or org/name of the hub")->required()->type_name(" ");
  app.add_option("--text", o->texts, "Text to measure on; repeatable")->required()->type_name("F[:WEIGHT]")->allow_extra_args(false);
  app.add_option("-o,--output", o->output, "Page to write (one self-contained HTML file); finished cells are kept beside it")
      ->type_name("OUT.html");
  app.add_option("--lang", o->language, "Of the page: en or ja (default en)")->type_name("L");
  app.add_option("--minutes", o->study.minutes, "Time to take (default 10); what was left out is said")
      ->check(number_between(0, 1e6))
      ->type_name("N");
  app.add_option("--where", o->study.where, "Perturb the weights, and inputs of weights, whose name matches (default ^blk\\.)")
      ->type_name("REGEX");
  app.add_option("--seeds", o->study.n_seeds, "Of random noise (default 3)")->check(CLI::Range(1, 100))->type_name("N");
  app.add_flag("--each-window", o->each_window, "Activations: r, maximum and quantile of a window, not of each token");
  app.add_option("--ctx", o->corpus.context, "Tokens of a window (default 512)")->check(CLI::Range(8, 1 << 20))->type_name("N");
  app.add_option("--windows", o->windows, "Windows to measure on, spread over the text (default 8)")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N");
  app.add_flag("--gradients", o->study.gradients,
               "Sensitivities by backward passes too (Fisher diagonal), compared with noise probes by what single tensors really cost");
  app.add_option("--types", o->types, "With --gradients: types of these costs (default Q2_K,Q3_K,Q4_K); repeatable")
      ->delimiter(',')
      ->type_name("TYPES")
      ->allow_extra_args(false);
  app.add_option("--held-out", o->held_out, "With --gradients: text that these costs are measured on (default: --text); repeatable")
      ->type_name("F[:WEIGHT]")
      ->allow_extra_args(false);
  app.add_option("--held-windows", o->held_windows, "Windows of it (default: as many as --windows)")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N");
  return [o](const CommonOptions& common) { return run(*o, common); };
}

}  // namespace

extern const Command kLensCommand;
const Command kLensCommand = {"lens", "MODEL --text F", "What noise of which kind, size and place does to a model",
                              "tsubu lens model-f16.gguf --text heldout.txt --minutes 10 -o lens.html\n"
                              "tsubu lens model-f16.gguf --text heldout.txt --where ffn_down --json\n"
                              "tsubu lens model-f16.gguf --text calibration.txt --held-out heldout.txt --gradients -o lens.html", declare};

}  // namespace tsubu
