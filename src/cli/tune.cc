// tsubu tune: training on a quantized base.
#include <memory>

#include "cli/checks.h"
#include "cli/command.h"
#include "cli/tune_lora.h"

namespace tsubu {
namespace {

Action declare(CLI::App& app) {
  auto shared = std::make_shared<TuneShared>();
  app.add_option("MODEL", shared->model, "GGUF file, Hugging Face directory or org/name of the hub")->required()->type_name(" ");
  app.add_option("-o,--output", shared->output, "With --lora: a new directory in PEFT's layout, or NAME.gguf for llama.cpp's")
      ->required()
      ->type_name("OUT");
  app.add_option("--text", shared->texts, "UTF-8 text to learn from; repeatable")->type_name("F[:WEIGHT]")->allow_extra_args(false);
  app.add_option("--ctx", shared->context, "Tokens of a window (default 512)")->check(CLI::Range(8, 1 << 20))->type_name("N");
  app.add_option("--chunks", shared->max_chunks, "At most so many windows of text (default: all)")->check(CLI::Range(1, 1 << 30))->type_name("N");
  app.add_option("--epochs", shared->epochs, "Times over the text (default 1)")->check(CLI::Range(1, 10000))->type_name("N");
  app.add_option("--rate", shared->rate, "Learning rate at its top (default 2e-4)")->check(number_between(1e-12, 10))->type_name("X");
  app.add_option("--seed", shared->seed, "Same seed, same bytes (default 1)")->check(CLI::NonNegativeNumber)->type_name("N");
  auto lora = declare_tune_lora(app);
  return [shared, lora](const CommonOptions& common) {
    if (!wants_lora(*lora)) fail(ExitCode::kUsage, "tune: what to train? Add --lora r=16,alpha=32,targets=all");
    return run_tune_lora(*lora, *shared, common);
  };
}

}  // namespace

extern const Command kTuneCommand;
const Command kTuneCommand = {"tune", "MODEL --lora SPEC --text F -o OUT", "Train a low-rank adapter on a frozen, quantized model",
                              "tsubu tune model-q4.gguf --lora r=16,alpha=32,targets=all --text book.txt -o adapter\n"
                              "tsubu tune nf4_directory --lora r=16,alpha=32,targets=all --chat talks.jsonl -o adapter.gguf",
                              declare};

}  // namespace tsubu
