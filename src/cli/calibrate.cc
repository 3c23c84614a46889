// tsubu calibrate: activation statistics of a model over text.
#include "calibrate/calibrate.h"

#include <memory>

#include "base/size.h"
#include "cli/adapter_options.h"
#include "cli/checks.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/table.h"
#include "hub/model.h"

namespace tsubu {
namespace {

struct Options {
  std::vector<std::string> adapters;
  std::string model, memory;
  std::vector<std::string> texts, merge;
  bool all_experts = false;
  CalibrateOptions calibrate;
};

void print_result(const CalibrateResult& r, const std::string& output) {
  Table table({"text", "weight", "chunks used", "tokens in it", "hash"});
  for (const CorpusSource& s : r.sources)
    table.add({s.path, fmt::format("{:g}", s.weight), std::to_string(s.n_chunks), format_count(s.n_tokens), s.hash});
  print_out(table.text());
  print_out(fmt::format("{}: {} of {} inputs, {} tokens in chunks of {}, {} in {} ({})\n", output,
                        format_size(r.size_bytes), r.inputs.size(), r.n_tokens, r.context,
                        r.n_passes == 1 ? "one pass" : fmt::format("{} passes", r.n_passes), format_duration(r.seconds),
                        format_rate(r.tokens_per_second)));
  const ExpertCoverage c = expert_coverage(r);
  if (c.n_experts == 0) return;
  print_out(fmt::format("experts: {} of {} saw no token, {} fewer than {}; least {}, median {}, most {}\n", c.n_unseen,
                        c.n_experts, c.n_few, kFewTokens, c.least, c.median, c.most));
  if (c.n_few > 0)
    print_out("add text, or route every token to every expert with --all-experts, to know more about them\n");
}

ExitCode merge(const Options& o, const CommonOptions& common) {
  std::vector<std::string> files = o.merge;
  if (!o.model.empty()) files.insert(files.begin(), o.model);
  if (!o.texts.empty()) fail(ExitCode::kUsage, "calibrate --merge adds files up and reads no --text");
  if (o.calibrate.legacy) fail(ExitCode::kUsage, "calibrate --merge writes the GGUF form: leave out --legacy");
  const uint64_t size = merge_statistics(files, o.calibrate.output);
  if (common.json)
    print_json(Json{{"output", o.calibrate.output}, {"merged", files}, {"size_bytes", size}});
  else
    print_out(fmt::format("{}: {} of {} files\n", o.calibrate.output, format_size(size), files.size()));
  return ExitCode::kDone;
}

ExitCode run(const Options& o, const CommonOptions& common) {
  if (!o.merge.empty()) return merge(o, common);
  if (o.model.empty()) fail(ExitCode::kUsage, "calibrate: no MODEL (tsubu calibrate --help shows an example)");
  CalibrateOptions options = o.calibrate;
  if (!o.memory.empty()) options.memory = parse_size_bytes(o.memory);
  for (const std::string& text : o.texts) options.corpus.texts.push_back(parse_corpus_text(text));
  if (options.corpus.texts.empty()) fail(ExitCode::kUsage, "calibrate: no text: add --text FILE");
  check_can_create(options.output);
  const auto model = open_adapted(o.model, o.adapters);
  if (o.all_experts) model->route_all_experts();
  ThreadPool pool(common.threads);
  const CalibrateResult result = calibrate(*model, options, pool);
  if (common.json) {
    Json json = to_json(result);
    json["model"] = o.model;
    json["output"] = options.output;
    json["gram"] = options.gram;
    json["fisher"] = options.fisher;
    print_json(json);
  } else {
    print_result(result, options.output);
  }
  return ExitCode::kDone;
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CalibrateOptions& c = o->calibrate;
  app.add_option("MODEL", o->model, "GGUF file, Hugging Face directory or org/name of the hub")->type_name(" ");
  declare_adapters(app, o->adapters);
  app.add_option("-o,--output", c.output, "Statistics file to write")->required()->type_name("STATS.gguf");
  app.add_option("--text", o->texts, "UTF-8 text; F:W gives it W shares of the chunks (default 1); repeatable")
      ->type_name("F")
      ->allow_extra_args(false);
  app.add_flag("--gram", c.gram, "Gram matrices, first moments and maxima too (for error feedback)");
  app.add_flag("--fisher", c.fisher, "Gram matrices of output gradients too (for quantize --stats --effort best)");
  app.add_option("--fisher-tokens", c.fisher_tokens, "Tokens whose gradients are looked at (default 65536)")
      ->check(CLI::Range(8, 1 << 30))
      ->type_name("N");
  app.add_option("--ctx", c.corpus.context, "Tokens of a chunk (default 512)")
      ->check(CLI::Range(8, 1 << 20))
      ->type_name("N");
  app.add_option("--chunks", c.corpus.max_chunks, "At most so many chunks in all (default: all)")
      ->check(CLI::Range(1, 1 << 30))
      ->type_name("N");
  CLI::Option* with_head =
      app.add_flag("--process-output", c.process_output, "Statistics of the head's input, output.weight (default)");
  app.add_flag_callback(
         "--no-process-output", [o] { o->calibrate.process_output = false; }, "Leave the head out")
      ->excludes(with_head);
  app.add_flag("--legacy", c.legacy, "Write the older .dat form of an importance matrix");
  app.add_flag("--all-experts", o->all_experts,
               "Mixtures of experts: statistics of every expert over every token, not only those routed to it");
  app.add_option("--memory", o->memory,
                 "For Gram matrices: blocks are done a few at a time to keep to it (default 2GiB)")
      ->type_name("SIZE");
  app.add_option("--merge", o->merge, "Add statistics files of one model up instead")->type_name("A.gguf B.gguf …");
  return [o](const CommonOptions& common) { return run(*o, common); };
}

}  // namespace

extern const Command kCalibrateCommand;
const Command kCalibrateCommand = {
    "calibrate", "MODEL --text F -o STATS.gguf", "Activation statistics from text: importance matrix, Gram matrices",
    "tsubu calibrate model-f16.gguf --text calibration.txt -o stats.gguf\n"
    "tsubu calibrate model-f16.gguf --text prose.txt --text code.txt:0.5 --chunks 128 --gram -o stats.gguf\n"
    "tsubu calibrate --merge a.gguf b.gguf -o both.gguf",
    declare};

}  // namespace tsubu
