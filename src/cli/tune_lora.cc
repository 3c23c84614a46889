#include "cli/tune_lora.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>

#include "base/hash.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/size.h"
#include "calibrate/corpus.h"
#include "cli/checks.h"
#include "cli/output.h"
#include "cli/table.h"
#include "hub/model.h"
#include "model/adapter.h"
#include "pipeline/quantize.h"
#include "tune/chat_data.h"
#include "tune/lora.h"

namespace tsubu {

namespace {

// "r=16,alpha=32,targets=all".
void read_lora(const std::string& text, LoraOptions& o) {
  bool has_alpha = false;
  for (std::string_view rest = text; !rest.empty();) {
    const size_t end = std::min(rest.find(','), rest.size());
    const std::string_view item = rest.substr(0, end);
    rest.remove_prefix(std::min(rest.size(), end + 1));
    const size_t equals = item.find('=');
    const std::string_view key = item.substr(0, equals), value = equals == std::string_view::npos ? "" : item.substr(equals + 1);
    double number = 0;
    const auto [stop, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    const bool is_number = error == std::errc() && stop == value.data() + value.size();
    if (key == "r" && is_number && number >= 1 && number <= 4096 && number == static_cast<double>(static_cast<size_t>(number))) {
      o.rank = static_cast<size_t>(number);
    } else if (key == "alpha" && is_number && number > 0 && number <= 1e6) {
      o.alpha = number;
      has_alpha = true;
    } else if (key == "targets" && !value.empty()) {
      o.targets = value;
    } else {
      fail(ExitCode::kUsage, "--lora {}: '{}': expected r=N (1 to 4096), alpha=X (above 0), targets=all or names joined by +", text, item);
    }
  }
  if (!has_alpha) o.alpha = 2 * static_cast<double>(o.rank);
}

// Names the files of a model: what a checkpoint belongs to.
std::string hash_of(const Model& model) {
  std::string digests;
  for (const std::string& file : model.files()) digests += hash_file(file);
  return hash_bytes(std::as_bytes(std::span(digests)));
}

void check_adapter_output(const Model& model, const std::string& output) {
  check_output(model, output);
  if (std::error_code error; !output.ends_with(".gguf") && std::filesystem::exists(output, error))
    fail(ExitCode::kUsage, "{}: there already: give the name of a new directory, or one that ends in .gguf", output);
}

struct Data {
  std::vector<TuneWindow> windows;
  std::optional<ChatData> chat;
};

Data read_data(const TuneOptions& o, const TuneLoraOptions& lora, const Model& model) {
  Data data;
  uint32_t context = o.corpus.context;
  if (model.hparams().n_ctx > 0 && model.hparams().n_ctx < context) {
    if (o.texts.empty()) note(fmt::format("context {} instead of {}: {} has no more", model.hparams().n_ctx, context, model.path()));
    context = model.hparams().n_ctx;
  }
  if (!lora.chats.empty()) {
    data.chat = read_chat(model, lora.chats, context, !lora.no_pack);
    data.windows = std::move(data.chat->windows);
    note(fmt::format("chat: {} records, {} examples in {} windows{}{}", data.chat->n_records, data.chat->n_examples, data.windows.size(),
                     data.chat->n_cut > 0 ? fmt::format(", {} cut to {} tokens", data.chat->n_cut, context) : "",
                     data.chat->n_empty > 0 ? fmt::format(", {} left out (no answer within a window)", data.chat->n_empty) : ""));
  }
  if (!o.texts.empty()) {
    CorpusOptions corpus = o.corpus;
    for (const std::string& text : o.texts) corpus.texts.push_back(parse_corpus_text(text));
    for (TuneWindow& w : text_windows(read_corpus(model, corpus).chunks)) data.windows.push_back(std::move(w));
  }
  return data;
}

// What it would take, from one window's forward pass.
ExitCode dry_run(const Model& model, const LoraOptions& tuning, const std::vector<TuneWindow>& windows, size_t longest, ThreadPool& pool,
                 const CommonOptions& common) {
  const LoraPrediction p = predict_lora(model, windows, tuning, pool);
  if (common.json) {
    print_json({{"predicted_bytes", p.bytes}, {"predicted_seconds", p.seconds}, {"steps", p.n_steps}, {"parameters", p.n_parameters},
                {"windows", windows.size()}, {"window_tokens", longest}});
    return ExitCode::kDone;
  }
  print_out(fmt::format("{} parameters, {} steps over {} windows of up to {} tokens; about {} and {} of memory\n",
                        format_count(p.n_parameters), p.n_steps, windows.size(), longest, format_duration(p.seconds), format_size(p.bytes)));
  return ExitCode::kDone;
}

}  // namespace

void declare_tune_lora(CLI::App& app, TuneLoraOptions& o) {
  app.add_option("--lora", o.spec, "Train a low-rank adapter: r=16,alpha=32,targets=all (or names joined by +: q_proj+v_proj)")
      ->type_name("SPEC");
  app.add_option("--chat", o.chats, "Conversations, JSON lines (docs/lora.md lists the forms): answers alone are learned; repeatable")
      ->type_name("F.jsonl")
      ->allow_extra_args(false);
  app.add_flag("--no-pack", o.no_pack, "A window for each conversation, instead of as many as fit");
  app.add_option("--init", o.init, "Adapter's start: default, or loftq: from the error of the base (needs --float)")
      ->check(CLI::IsMember({"default", "loftq"}).description(""))
      ->type_name("NAME");
  app.add_option("--float", o.float_model, "The model that the base was quantized from, for --init loftq")->type_name("BASE");
  app.add_option("--max-norm", o.max_norm, "A longer gradient is shortened to this; 0: never (default 1)")
      ->check(number_between(0, 1e9))
      ->type_name("X");
}

ExitCode run_tune_lora(const TuneOptions& o, const TuneLoraOptions& lora, const CommonOptions& common) {
  if (o.texts.empty() && lora.chats.empty()) fail(ExitCode::kUsage, "tune --lora: nothing to learn from: give --text F or --chat F.jsonl");
  if ((lora.init == "loftq") == lora.float_model.empty()) {
    if (lora.float_model.empty()) fail(ExitCode::kUsage, "--init loftq needs the float model: add --float BASE");
    fail(ExitCode::kUsage, "--float {} is for --init loftq", lora.float_model);
  }
  return_large_buffers();
  LoraOptions tuning;
  read_lora(lora.spec, tuning);
  tuning.max_norm = lora.max_norm;
  tuning.n_tokens = o.n_tokens;
  if (o.tokens_per_step > 0) tuning.tokens_per_step = o.tokens_per_step;
  if (o.rate > 0) tuning.rate = o.rate;
  tuning.schedule = {.warm_up = o.warm_up, .floor = o.floor};
  tuning.adamw.weight_decay = static_cast<float>(o.weight_decay);
  tuning.adamw.states_8bit = !o.f32_states;
  tuning.held_out = o.held_out;
  tuning.judged_tokens = o.judged_tokens;
  tuning.n_judgements = o.n_evaluations;
  tuning.seed = o.seed;
  const auto model = Model::open(model_path(o.model));
  const auto float_model = lora.float_model.empty() ? nullptr : Model::open(model_path(lora.float_model));
  check_adapter_output(*model, o.output);
  tuning.float_model = float_model.get();
  if (!o.no_checkpoint) {
    tuning.checkpoint = o.output + ".tsubu-tune";
    tuning.model_hash = hash_of(*model);
  }
  const Data data = read_data(o, lora, *model);
  ThreadPool pool(common.threads);
  size_t longest = 0;
  for (const TuneWindow& w : data.windows) longest = std::max(longest, w.tokens.size());
  const LoraMemory memory = lora_memory(*model, tuning, longest, pool.size());
  note(fmt::format("memory: {} in all: {} for the adapter and its states, {} for the windows' values, {} of weights, {} that are there now",
                   format_size(memory.total()), format_size(memory.adapter), format_size(memory.passes), format_size(memory.weights),
                   format_size(memory.now)));
  if (o.dry_run) return dry_run(*model, tuning, data.windows, longest, pool, common);
  const LoraResult r = tune_lora(*model, data.windows, tuning, pool);
  write_adapter(o.output, *model, r.adapter, {o.model, tuning.alpha, tuning.rank});
  std::error_code ignored;
  if (!tuning.checkpoint.empty()) std::filesystem::remove(tuning.checkpoint, ignored);
  if (common.json) {
    Json json = to_json(r);
    json["model"] = o.model;
    json["output"] = o.output;
    json["rank"] = tuning.rank;
    json["alpha"] = tuning.alpha;
    json["targets"] = tuning.targets;
    json["windows"] = data.windows.size();
    if (data.chat)
      json["chat"] = {{"records", data.chat->n_records}, {"examples", data.chat->n_examples}, {"cut", data.chat->n_cut},
                      {"left_out", data.chat->n_empty}};
    json["size_bytes"] = adapter_file_bytes(o.output);
    print_json(json);
    return ExitCode::kDone;
  }
  Table table({">step", ">loss", ">held out", ">rate", ">gradient"});
  for (size_t i = 0; i < r.curve.size(); ++i) {
    const LoraPoint& p = r.curve[i];
    if (!p.held_out && i > 0 && i + 1 < r.curve.size()) continue;
    table.add({fmt::format("{}", p.step), fmt::format("{:.4f}", p.loss), p.held_out ? fmt::format("{:.4f}", *p.held_out) : "-",
               fmt::format("{:.2e}", p.rate), fmt::format("{:.3f}", p.norm)});
  }
  print_out(table.text() + "loss: cross entropy of the targets, nats; held out: of windows that were not learned from\n");
  if (r.n_judged > 0)
    print_out(fmt::format("held out: {:.4f} → {:.4f} nats a target over {} targets\n", r.before, r.after, r.n_judged));
  print_out(fmt::format("{}: {} parameters of {} matrices, {}; {} steps in {} ({}), {} of memory at most, {} predicted\n", o.output,
                        format_count(r.adapter.n_parameters()), r.adapter.tensors.size(), format_size(adapter_file_bytes(o.output)),
                        r.n_steps - r.first_step, format_duration(r.seconds), format_rate(r.tokens_per_second), format_size(r.peak_bytes),
                        format_size(r.predicted_bytes)));
  return ExitCode::kDone;
}

}  // namespace tsubu
