// tsubu eval: perplexity, and divergence from a base model, over texts.
#include <algorithm>
#include <memory>
#include <optional>

#include "base/file.h"
#include "base/progress.h"
#include "base/size.h"
#include "cli/adapter_options.h"
#include "cli/checks.h"
#include "cli/command.h"
#include "cli/numerics_options.h"
#include "cli/output.h"
#include "cli/products_option.h"
#include "cli/table.h"
#include "evaluate/evaluate.h"
#include "evaluate/tasks.h"
#include "hub/model.h"

namespace tsubu {
namespace {

struct Options {
  std::string model, base, protocol = "llama.cpp", products = "auto";
  std::vector<std::string> adapters;
  std::vector<std::string> texts, tasks;
  uint32_t task_limit = 0;
  std::optional<uint32_t> context;
  std::optional<double> max_perplexity, max_divergence;
  EvalOptions eval;
  NumericsChoice numerics;
};

struct Gate {
  std::string name;
  double value, limit;
  bool ok() const { return value <= limit; }  // false for NaN too
};

// Each text is tokenized alone and cut to whole chunks, so that no chunk spans two texts.
std::vector<TokenId> tokens_of(const Options& o, const Model& model, uint32_t context) {
  const auto tokenizer = model.make_tokenizer();
  std::vector<TokenId> all;
  for (const std::string& path : o.texts) {
    const std::vector<TokenId> tokens = tokenizer->encode(read_text_file(path));
    uint64_t n_chunks = tokens.size() / context;
    if (o.eval.max_chunks > 0) n_chunks = std::min<uint64_t>(n_chunks, o.eval.max_chunks);
    if (n_chunks == 0)
      fail(ExitCode::kUsage, "{}: {} tokens are fewer than one chunk of {}: give a longer text or a smaller --ctx", path,
           tokens.size(), context);
    all.insert(all.end(), tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(n_chunks * context));
  }
  return all;
}

std::vector<Gate> gates_of(const Options& o, const EvalResult& result) {
  std::vector<Gate> gates;
  if (o.max_perplexity) gates.push_back({"perplexity", result.perplexity.mean, *o.max_perplexity});
  if (o.max_divergence) gates.push_back({"divergence", result.divergence.mean, *o.max_divergence});
  return gates;
}

// A task's answers by the model and, where there is one, by the base.
struct TaskRun {
  Task task;
  TaskScores scores;
  std::optional<TaskComparison> comparison;
};

std::vector<TaskRun> run_tasks(const Options& o, const Model& model, const Model* base, ThreadPool& pool) {
  std::vector<TaskRun> runs;
  for (const std::string& path : o.tasks) {
    TaskRun run{read_task(path, o.task_limit), {}, {}};
    run.scores = score_task(run.task, model, o.eval.act_int8, pool);
    if (base) run.comparison = compare_task(run.task, score_task(run.task, *base, o.eval.act_int8, pool), run.scores);
    runs.push_back(std::move(run));
  }
  return runs;
}

Json tasks_json(const std::vector<TaskRun>& runs) {
  Json list = Json::array();
  for (const TaskRun& run : runs) {
    Json json = task_json(run.task, run.scores);
    if (run.comparison) {
      const PairedCounts& c = counted(run.task, *run.comparison);
      json["flips"] = {{"lost", c.lost}, {"gained", c.gained}, {"base_accuracy", c.base_share()}, {"mcnemar_p", mcnemar_exact(c.lost, c.gained)}};
    }
    list.push_back(std::move(json));
  }
  return list;
}

void print_tasks(const std::vector<TaskRun>& runs) {
  if (runs.empty()) return;
  Table table({"task", ">questions", ">right, raw", ">normalized", ">base", ">lost", ">gained", ">p"});
  for (const TaskRun& run : runs) {
    const Json json = task_json(run.task, run.scores);
    const auto share = [&](const char* key) {
      return fmt::format("{:.2f} % ± {:.2f}", 100 * json[key]["accuracy"].get<double>(), 100 * json[key]["stderr"].get<double>());
    };
    std::vector<std::string> cells = {run.task.name, fmt::format("{}", run.task.items.size()), share("raw"), share("normalized")};
    if (run.comparison) {
      const PairedCounts& c = counted(run.task, *run.comparison);
      for (std::string cell : {fmt::format("{:.2f} %", 100 * c.base_share()), fmt::format("{}", c.lost), fmt::format("{}", c.gained),
                               fmt::format("{:.3g}", mcnemar_exact(c.lost, c.gained))})
        cells.push_back(std::move(cell));
    }
    table.add(std::move(cells));
  }
  print_out(table.text() + "questions: zero-shot; raw: the continuation of the largest log-likelihood; normalized: per byte of its text; "
                           "lost, gained: answers that the base had right, wrong; p: exact McNemar\n");
}

void print_result(const EvalResult& r, const EvalOptions& options, const std::vector<Gate>& gates) {
  Table table({"", ""});
  table.add({"perplexity", fmt::format("{:.4f} ± {:.4f}", r.perplexity.mean, r.perplexity.stderr_)});
  if (r.has_base) {
    const DivergenceResult& d = r.divergence;
    table.add({"perplexity of the base", fmt::format("{:.4f} ± {:.4f}", r.base_perplexity.mean, r.base_perplexity.stderr_)});
    table.add({"ln of their ratio", fmt::format("{:.5f} [{:.5f}, {:.5f}]", d.ln_ppl_ratio, d.ln_ppl_ratio_ci95.low,
                                                d.ln_ppl_ratio_ci95.high)});
    table.add({"divergence, mean", fmt::format("{:.6f} [{:.6f}, {:.6f}] nats", d.mean, d.mean_ci95.low, d.mean_ci95.high)});
    table.add({"  median, 90 %, 95 %", fmt::format("{:.6f}, {:.6f}, {:.6f}", d.median, d.p90, d.p95)});
    table.add({"  99 %, 99.9 %, max", fmt::format("{:.6f}, {:.6f}, {:.6f}", d.p99, d.p999, d.max)});
    table.add({"same top token", fmt::format("{:.2f} % [{:.2f}, {:.2f}]", 100 * d.top1_agreement, 100 * d.top1_ci95.low,
                                             100 * d.top1_ci95.high)});
    table.add({"RMS change of p", fmt::format("{:.3f} %", 100 * d.rms_delta_p)});
  }
  if (options.numerics.any()) {
    table.add({"keys and values", fmt::format("{} for {} tokens", format_size(r.kv_cache_bytes), r.context)});
    if (r.quantized_bytes > 0) table.add({"codes and scales", format_size(r.quantized_bytes)});
  }
  table.add({"speed", fmt::format("{} in {}", format_rate(r.tokens_per_second), format_duration(r.seconds))});
  print_out(table.text() + joined(protocol_of(r, options), "; ") + "\n");
  for (const Gate& gate : gates)
    print_out(fmt::format("gate: {} {:.6g} ≤ {:.6g}: {}\n", gate.name, gate.value, gate.limit, gate.ok() ? "pass" : "FAIL"));
}

Json result_json(const Options& o, const EvalResult& result, const EvalOptions& options, const std::vector<Gate>& gates) {
  Json json = to_json(result);
  json["model"] = o.model;
  if (!o.base.empty()) json["base"] = o.base;
  json["texts"] = o.texts;
  const std::vector<Remark> protocol = protocol_of(result, options);
  json["protocol"] = joined(protocol, "; ");
  json["protocol_parts"] = to_json(std::span<const Remark>(protocol));
  if (options.numerics.any()) json["numerics"] = to_json(options.numerics);
  json["gates"] = Json::array();
  for (const Gate& gate : gates)
    json["gates"].push_back(Json{{"name", gate.name}, {"value", gate.value}, {"limit", gate.limit}, {"ok", gate.ok()}});
  return json;
}

// Questions alone.
ExitCode run_only_tasks(const Options& o, const CommonOptions& common) {
  if (o.max_perplexity || o.max_divergence) fail(ExitCode::kUsage, "eval: --max-ppl and --max-kld need text: add --text F");
  const auto model = open_adapted(o.model, o.adapters);
  const auto base = o.base.empty() ? nullptr : Model::open(model_path(o.base));
  ThreadPool pool(common.threads);
  const std::vector<TaskRun> tasks = run_tasks(o, *model, base.get(), pool);
  if (!common.json) {
    print_tasks(tasks);
    return ExitCode::kDone;
  }
  Json json = {{"model", o.model}};
  if (base) json["base"] = o.base;
  json["tasks"] = tasks_json(tasks);
  print_json(json);
  return ExitCode::kDone;
}

ExitCode run(const Options& o, const CommonOptions& common) {
  if (o.texts.empty() && o.tasks.empty()) fail(ExitCode::kUsage, "eval: nothing to measure on: give --text F or --tasks F");
  if (o.texts.empty()) return run_only_tasks(o, common);
  if (o.max_divergence && o.base.empty())
    fail(ExitCode::kUsage, "eval: --max-kld needs a base to compare with: add --ref BASE");
  EvalOptions options = o.eval;
  options.protocol = o.protocol == "paper" ? EvalProtocol::kPaper : EvalProtocol::kLlamaCpp;
  options.context = o.context.value_or(options.protocol == EvalProtocol::kPaper ? 2048 : 512);
  options.act_int8_base = options.act_int8;

  const auto model = open_adapted(o.model, o.adapters);
  const auto base = o.base.empty() ? nullptr : Model::open(model_path(o.base));
  for (const Model* m : {model.get(), base.get()}) {
    if (!m || m->hparams().n_ctx == 0 || m->hparams().n_ctx >= options.context) continue;
    options.context = m->hparams().n_ctx;
    note(fmt::format("context {} instead of the protocol's: {} has no more", options.context, m->path()));
  }
  const std::vector<TokenId> tokens = tokens_of(o, *model, options.context);
  options.max_chunks = 0;  // the tokens are cut already, text by text
  ThreadPool pool(common.threads);
  options.numerics = make_numerics(o.numerics, *model, options.context, pool);
  options.bf16_products = takes_bf16(o.products, *model, options.act_int8 || options.numerics.any());
  const EvalResult result = evaluate(*model, base.get(), tokens, options, pool);

  const std::vector<TaskRun> tasks = run_tasks(o, *model, base.get(), pool);
  const std::vector<Gate> gates = gates_of(o, result);
  if (common.json) {
    Json json = result_json(o, result, options, gates);
    if (!tasks.empty()) json["tasks"] = tasks_json(tasks);
    print_json(json);
  } else {
    print_result(result, options, gates);
    print_tasks(tasks);
  }
  return std::all_of(gates.begin(), gates.end(), [](const Gate& gate) { return gate.ok(); }) ? ExitCode::kDone
                                                                                            : ExitCode::kGateFailed;
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "GGUF file, Hugging Face directory or org/name of the hub")->required()->type_name(" ");
  declare_adapters(app, o->adapters);
  app.add_option("--ref", o->base, "Base model: measure the divergence from it")->type_name("BASE");
  app.add_option("--text", o->texts, "UTF-8 text; repeatable, no chunk spans two texts")
      ->type_name("F")
      ->allow_extra_args(false);
  app.add_option("--tasks", o->tasks, "Questions with answers (docs/certify.md lists the forms); repeatable")
      ->type_name("F")
      ->allow_extra_args(false);
  app.add_option("--task-limit", o->task_limit, "At most so many questions of each task (default: all)")->type_name("N");
  app.add_option("--ctx", o->context, "Tokens of a chunk (default: the protocol's)")
      ->check(CLI::Range(8, 1 << 20))
      ->type_name("N");
  app.add_option("--chunks", o->eval.max_chunks, "At most so many chunks of each text (default: all)")->type_name("N");
  app.add_option("--protocol", o->protocol,
                 "llama.cpp: chunks of 512, second half scored (default); paper: windows of 2048, all scored")
      ->check(CLI::IsMember({"llama.cpp", "paper"}).description(""))
      ->type_name("NAME");
  app.add_flag("--act-int8", o->eval.act_int8, "Round activations to 8 bits as llama.cpp's CPU path does");
  declare_products(app, o->products);
  declare_numerics(app, o->numerics);
  app.add_option("--seed", o->eval.seed, "Of the bootstrap intervals (default 1)")->check(CLI::NonNegativeNumber)->type_name("N");
  app.add_option("--max-ppl", o->max_perplexity, "Exit 1 when the perplexity is higher")
      ->check(number_between(0, 1e300))
      ->type_name("X");
  app.add_option("--max-kld", o->max_divergence, "Exit 1 when the mean divergence is higher")
      ->check(number_between(0, 1e300))
      ->type_name("X");
  return [o](const CommonOptions& common) { return run(*o, common); };
}

}  // namespace

extern const Command kEvalCommand;
const Command kEvalCommand = {"eval", "MODEL --text F", "Perplexity, and divergence from a base model",
                              "tsubu eval model-q4.gguf --ref model-f16.gguf --text heldout.txt --max-kld 0.05\n"
                              "tsubu eval model-f16.gguf --ref model-f16.gguf --text heldout.txt --acts int8:token", declare};

}  // namespace tsubu
