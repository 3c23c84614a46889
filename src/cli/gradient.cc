// tsubu gradient: the gradient of a model's loss on a text.
#include "pipeline/gradient_file.h"

#include <memory>

#include "base/size.h"
#include "cli/adapter_options.h"
#include "cli/checks.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/table.h"

namespace tsubu {
namespace {

struct Options {
  std::string model, output;
  std::vector<std::string> texts, adapters;
  CorpusOptions corpus;
};

ExitCode run(const Options& o, const CommonOptions& common) {
  if (o.texts.empty()) fail(ExitCode::kUsage, "gradient: no text: add --text FILE");
  check_can_create(o.output);
  CorpusOptions options = o.corpus;
  for (const std::string& text : o.texts) options.texts.push_back(parse_corpus_text(text));
  const auto model = open_adapted(o.model, o.adapters);
  const Corpus corpus = read_corpus(*model, options);
  ThreadPool pool(common.threads);
  const GradientResult r = write_gradients(*model, corpus, o.output, pool);
  if (common.json) {
    Json json = to_json(r);
    json["model"] = o.model;
    json["output"] = o.output;
    json["context"] = corpus.context;
    print_json(json);
    return ExitCode::kDone;
  }
  Table table({"tensor", "|gradient|", "|gradient| / |weights|"});
  for (const WeightGradient& w : r.weights)
    table.add({w.name, fmt::format("{:.4g}", w.norm), w.weight_norm > 0 ? fmt::format("{:.3g}", w.norm / w.weight_norm) : "-"});
  print_out(table.text());
  print_out(fmt::format("loss {:.6f} nats a token, over {} tokens in windows of {}; forward and backward in {} ({}), {} "
                        "of values and gradients at once\n",
                        r.loss, r.n_tokens, corpus.context, format_duration(r.seconds), format_rate(r.tokens_per_second),
                        format_size(r.scratch_bytes)));
  if (!o.output.empty()) print_out(fmt::format("{}: {}\n", o.output, format_size(r.size_bytes)));
  return ExitCode::kDone;
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "GGUF file or Hugging Face directory")->required()->type_name(" ");
  declare_adapters(app, o->adapters);
  app.add_option("-o,--output", o->output, "Write the gradient of every weight (F32, GGUF names and order)")
      ->type_name("G.safetensors");
  app.add_option("--text", o->texts, "UTF-8 text; repeatable")->type_name("F[:WEIGHT]")->allow_extra_args(false);
  app.add_option("--ctx", o->corpus.context, "Tokens of a window (default 512)")
      ->check(CLI::Range(8, 1 << 20))
      ->type_name("N");
  app.add_option("--chunks", o->corpus.max_chunks, "At most so many windows (default: all)")
      ->check(CLI::Range(1, 1 << 30))
      ->type_name("N");
  return [o](const CommonOptions& common) { return run(*o, common); };
}

}  // namespace

extern const Command kGradientCommand;
const Command kGradientCommand = {"gradient", "MODEL --text F", "Gradient of the loss on a text with respect to every weight",
                                  "tsubu gradient model-f16.gguf --text sample.txt --chunks 8\n"
                                  "tsubu gradient hf_directory --text sample.txt -o gradient.safetensors",
                                  declare};

}  // namespace tsubu
