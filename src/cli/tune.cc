// tsubu tune: training on text or chats: weights in a quantized model's types (--qat), or an adapter on a frozen model (--lora).
#include <memory>
#include <vector>

#include "cli/checks.h"
#include "cli/command.h"
#include "cli/manifest_options.h"
#include "cli/tune_lora.h"
#include "cli/tune_options.h"
#include "cli/tune_qat.h"

namespace tsubu {
namespace {

struct Options {
  TuneOptions tune;
  TuneQatOptions qat;
  TuneLoraOptions lora;
  std::vector<const CLI::Option*> of_qat, of_lora;  // that the other has no use for
};

ExitCode run(const Options& o, const CommonOptions& common) {
  if (o.qat.to.empty() == o.lora.spec.empty())
    fail(ExitCode::kUsage, "tune: what is to be trained? Add {}--qat TYPE or --lora r=16,alpha=32,targets=all", o.qat.to.empty() ? "" : "one of ");
  for (const CLI::Option* option : o.lora.spec.empty() ? o.of_lora : o.of_qat)
    if (option->count() > 0) fail(ExitCode::kUsage, "tune: {} is not for {}", option->get_name(), o.lora.spec.empty() ? "--qat" : "--lora");
  if (!o.lora.spec.empty()) return run_tune_lora(o.tune, o.lora, common);
  if (o.tune.texts.empty()) fail(ExitCode::kUsage, "tune: no text: add --text FILE");
  return run_tune_qat(o.tune, o.qat, common);
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  TuneOptions& t = o->tune;
  app.add_option("MODEL", t.model, "GGUF file, Hugging Face directory or org/name of the hub")->required()->type_name(" ");
  app.add_option("-o,--output", t.output, "GGUF file to write; with --lora: NAME.gguf for llama.cpp, else a new directory in PEFT's layout")
      ->required()
      ->type_name("OUT");
  const auto declared_by = [&](auto declare_own) {
    const size_t n_before = app.get_options().size();
    declare_own();
    const auto all = app.get_options();
    return std::vector<const CLI::Option*>(all.begin() + static_cast<std::ptrdiff_t>(n_before), all.end());
  };
  o->of_qat = declared_by([&] { declare_tune_qat(app, o->qat); });
  o->of_lora = declared_by([&] { declare_tune_lora(app, o->lora); });
  app.add_option("--text", t.texts, "UTF-8 text to train on; repeatable")->type_name("F[:WEIGHT]")->allow_extra_args(false);
  app.add_option("--ctx", t.corpus.context, "Tokens of a window (default 512)")->check(CLI::Range(8, 1 << 20))->type_name("N");
  app.add_option("--chunks", t.corpus.max_chunks, "At most so many windows (default: all)")
      ->check(CLI::Range(1, 1 << 30))
      ->type_name("N");
  app.add_option("--tokens", t.n_tokens, "Tokens to train on, the text as often as needed (default: once)")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 50))
      ->type_name("N");
  app.add_option("--step-tokens", t.tokens_per_step, "Tokens of a step (default 2048)")
      ->check(CLI::Range(1, 1 << 30))
      ->type_name("N");
  app.add_option("--rate", t.rate, "Learning rate at the top of the schedule (--qat: share of a tensor's root mean square, default 0.003; --lora: 2e-4)")
      ->check(number_between(1e-9, 10))
      ->type_name("X");
  app.add_option("--warm-up", t.warm_up, "Share of the steps in which the rate rises (default 0.05)")
      ->check(number_between(0, 0.9))
      ->type_name("X");
  app.add_option("--floor", t.floor, "Share of the rate that is left at the end of the cosine (default 0)")
      ->check(number_between(0, 1))
      ->type_name("X");
  app.add_option("--weight-decay", t.weight_decay, "AdamW's (default 0)")->check(number_between(0, 1))->type_name("X");
  app.add_flag("--f32-states", t.f32_states, "AdamW's moments in 32 bits instead of 8");
  app.add_option("--held-out", t.held_out, "Share of the windows that only judge (default 0.05)")
      ->check(number_between(1e-4, 0.5))
      ->type_name("X");
  app.add_option("--judged-tokens", t.judged_tokens, "Tokens of those that are used at most (default 8192)")
      ->check(CLI::Range(1, 1 << 30))
      ->type_name("N");
  app.add_option("--evaluations", t.n_evaluations, "How often it is judged on the way (default 10)")
      ->check(CLI::Range(1, 100000))
      ->type_name("N");
  app.add_option("--seed", t.seed, "Of the order of the windows (default 1)")->type_name("N");
  app.add_flag("--no-checkpoint", t.no_checkpoint, "Keep nothing beside the output to go on from");
  app.add_flag("--dry-run", t.dry_run, "Only predict: types, size, time, memory");
  app.add_flag("--no-manifest", t.no_manifest, "Write no OUT.manifest.json (how the output was made)");
  return [o, &app](const CommonOptions& common) {
    o->tune.given = given_options(app);
    return run(*o, common);
  };
}

}  // namespace

extern const Command kTuneCommand;
const Command kTuneCommand = {"tune", "MODEL --qat TYPE|--lora SPEC --text F -o OUT",
                              "Train weights in the types they are written in, or an adapter on a frozen model",
                              "tsubu tune model-f16.gguf --qat Q2_K --text books.txt -o model-q2.gguf --tokens 4000000\n"
                              "tsubu tune hf_directory --qat TQ2_0 --text books.txt -o ternary.gguf --start rounded.gguf\n"
                              "tsubu tune nf4_directory --lora r=16,alpha=32,targets=all --chat talks.jsonl -o adapter",
                              declare};

}  // namespace tsubu
