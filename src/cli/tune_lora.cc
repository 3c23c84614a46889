#include "cli/tune_lora.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>

#include "base/hash.h"
#include "base/progress.h"
#include "base/size.h"
#include "calibrate/corpus.h"
#include "cli/checks.h"
#include "cli/output.h"
#include "cli/table.h"
#include "hub/model.h"
#include "model/adapter.h"
#include "tune/chat_data.h"
#include "tune/lora.h"

namespace tsubu {

struct TuneLoraOptions {
  std::string lora, init = "default", float_model;
  std::vector<std::string> chats;
  bool no_pack = false, is_8bit = false;
  LoraOptions tuning;
};

namespace {

constexpr uint32_t kContext = 512;  // of a window, when nothing is said

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

void check_output(const Model& model, const std::string& output) {
  namespace fs = std::filesystem;
  const bool is_gguf = output.ends_with(".gguf");
  for (const std::string& file : model.files())
    if (std::filesystem::exists(output) && std::filesystem::equivalent(file, output))
      fail(ExitCode::kUsage, "{}: the output is the model itself", output);
  if (!is_gguf && fs::exists(output))
    fail(ExitCode::kUsage, "{}: there already: give the name of a new directory, or one that ends in .gguf", output);
  const fs::path parent = fs::path(output).parent_path();
  if (!parent.empty() && !fs::is_directory(parent)) fail(ExitCode::kIo, "{}: no such directory", parent.string());
}

struct Data {
  std::vector<TuneWindow> windows;
  std::optional<ChatData> chat;
};

Data read_data(const TuneLoraOptions& o, const TuneShared& shared, const Model& model) {
  Data data;
  uint32_t context = shared.context > 0 ? shared.context : kContext;
  if (model.hparams().n_ctx > 0 && model.hparams().n_ctx < context) {
    note(fmt::format("context {} instead of {}: {} has no more", model.hparams().n_ctx, context, model.path()));
    context = model.hparams().n_ctx;
  }
  if (!o.chats.empty()) {
    data.chat = read_chat(model, o.chats, context, !o.no_pack);
    data.windows = std::move(data.chat->windows);
    note(fmt::format("chat: {} records, {} examples in {} windows{}{}", data.chat->n_records, data.chat->n_examples, data.windows.size(),
                     data.chat->n_cut > 0 ? fmt::format(", {} cut to {} tokens", data.chat->n_cut, context) : "",
                     data.chat->n_empty > 0 ? fmt::format(", {} left out (no answer within a window)", data.chat->n_empty) : ""));
  }
  if (!shared.texts.empty()) {
    CorpusOptions corpus;
    corpus.context = context;
    corpus.max_chunks = shared.max_chunks;
    for (const std::string& text : shared.texts) corpus.texts.push_back(parse_corpus_text(text));
    for (TuneWindow& w : text_windows(read_corpus(model, corpus).chunks)) data.windows.push_back(std::move(w));
  }
  return data;
}

}  // namespace

std::shared_ptr<TuneLoraOptions> declare_tune_lora(CLI::App& app) {
  auto o = std::make_shared<TuneLoraOptions>();
  app.add_option("--lora", o->lora, "Train a low-rank adapter: r=16,alpha=32,targets=all (or names joined by +: q_proj+v_proj)")
      ->type_name("SPEC");
  app.add_option("--chat", o->chats, "Conversations, JSON lines (docs/lora.md lists the forms): answers alone are learned; repeatable")
      ->type_name("F.jsonl")
      ->allow_extra_args(false);
  app.add_flag("--no-pack", o->no_pack, "A window for each conversation, instead of as many as fit");
  app.add_option("--init", o->init, "Adapter's start: default, or loftq: from the error of the base (needs --float)")
      ->check(CLI::IsMember({"default", "loftq"}).description(""))
      ->type_name("NAME");
  app.add_option("--float", o->float_model, "The model that the base was quantized from, for --init loftq")->type_name("BASE");
  app.add_flag("--adam-8bit", o->is_8bit, "The optimizer's states in 8 bits");
  app.add_option("--max-norm", o->tuning.max_norm, "The gradient is shortened to this length; 0: never (default 1)")
      ->check(number_between(0, 1e9))
      ->type_name("X");
  app.add_option("--adapter-steps", o->tuning.max_steps, "Stop after so many steps (default: as many as the epochs make)")->type_name("N");
  return o;
}

bool wants_lora(const TuneLoraOptions& options) { return !options.lora.empty(); }

ExitCode run_tune_lora(const TuneLoraOptions& o, const TuneShared& shared, const CommonOptions& common) {
  if (shared.texts.empty() && o.chats.empty()) fail(ExitCode::kUsage, "tune --lora: nothing to learn from: give --text F or --chat F.jsonl");
  if (shared.output.empty()) fail(ExitCode::kUsage, "tune --lora: no output: give -o DIRECTORY or -o NAME.gguf");
  if ((o.init == "loftq") == o.float_model.empty())
    fail(ExitCode::kUsage, o.float_model.empty() ? "--init loftq needs the float model: add --float BASE" : "--float is for --init loftq");
  LoraOptions tuning = o.tuning;
  read_lora(o.lora, tuning);
  if (shared.epochs > 0) tuning.epochs = shared.epochs;
  if (shared.rate > 0) tuning.rate = shared.rate;
  tuning.seed = shared.seed;
  tuning.adamw.states_8bit = o.is_8bit;
  const auto model = Model::open(model_path(shared.model));
  const auto float_model = o.float_model.empty() ? nullptr : Model::open(model_path(o.float_model));
  check_output(*model, shared.output);
  tuning.float_model = float_model.get();
  tuning.checkpoint = shared.output + ".tsubu-tune";
  tuning.model_hash = hash_of(*model);
  const Data data = read_data(o, shared, *model);
  ThreadPool pool(common.threads);
  size_t longest = 0;
  for (const TuneWindow& w : data.windows) longest = std::max(longest, w.tokens.size());
  note(fmt::format("memory: {} for the adapter, its states and the windows' values, beside the model's {}",
                   format_size(lora_bytes(*model, tuning, longest, pool.size())), format_size(model->weight_bytes())));
  const LoraResult r = tune_lora(*model, data.windows, tuning, pool);
  write_adapter(shared.output, *model, r.adapter, {shared.model, tuning.alpha, tuning.rank, false});
  std::error_code ignored;
  std::filesystem::remove(tuning.checkpoint, ignored);
  if (common.json) {
    Json json = to_json(r);
    json["model"] = shared.model;
    json["output"] = shared.output;
    json["rank"] = tuning.rank;
    json["alpha"] = tuning.alpha;
    json["targets"] = tuning.targets;
    json["windows"] = data.windows.size();
    if (data.chat)
      json["chat"] = {{"records", data.chat->n_records}, {"examples", data.chat->n_examples}, {"cut", data.chat->n_cut},
                      {"left_out", data.chat->n_empty}};
    json["size_bytes"] = adapter_file_bytes(shared.output);
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
  print_out(fmt::format("{}: {} parameters of {} matrices, {}; {} steps in {} ({}), {} besides the model\n", shared.output,
                        format_count(r.adapter.n_parameters()), r.adapter.tensors.size(), format_size(adapter_file_bytes(shared.output)),
                        r.n_steps - r.first_step, format_duration(r.seconds), format_rate(r.tokens_per_second), format_size(r.scratch_bytes)));
  return ExitCode::kDone;
}

}  // namespace tsubu
