// tsubu serve: one or two models behind OpenAI's API, and a page to compare them.
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "base/file.h"
#include "base/progress.h"
#include "base/size.h"
#include "cli/adapter_options.h"
#include "cli/checks.h"
#include "cli/command.h"
#include "cli/output.h"
#include "hub/model.h"
#include "serve/server.h"

namespace tsubu {
namespace {

constexpr size_t kMostContext = 4096;  // unless asked for more: every place needs the memory for it

struct Options {
  std::vector<std::string> adapters;
  std::string model, base, alias, base_alias, key_file, kv, max_body = "4MiB";
  serve::ServerOptions server;
  size_t context = 0;
  double shadow = 0.05;
  bool act_f32 = false;
};

// "models/x.gguf" and "models/x/" → "x".
std::string name_of(const std::string& path) {
  std::filesystem::path p(path);
  if (!p.has_filename()) p = p.parent_path();
  p = p.filename();
  return p.extension() == ".gguf" ? p.stem().string() : p.string();
}

std::string read_key(const Options& o) {
  std::string key;
  if (!o.key_file.empty())
    key = read_text_file(o.key_file, 4096);
  else if (const char* given = std::getenv("TSUBU_API_KEY"))
    key = given;
  while (!key.empty() && (key.back() == '\n' || key.back() == '\r')) key.pop_back();
  if (key.empty() && !o.key_file.empty()) fail(ExitCode::kUsage, "{}: no API key in it", o.key_file);
  return key;
}

ExitCode run(const Options& o, const CommonOptions& common) {
  std::vector<std::unique_ptr<Model>> models;
  models.push_back(open_adapted(o.model, o.adapters));
  if (!o.base.empty()) models.push_back(Model::open(model_path(o.base)));
  ThreadPool pool(common.threads);
  EngineOptions engine_options;
  engine_options.act_int8 = !o.act_f32;
  if (!o.kv.empty()) engine_options.numerics.cache = parse_kv_formats(o.kv);

  serve::ServerOptions options = o.server;
  options.api_key = read_key(o);
  options.http.max_body_bytes = parse_size_bytes(o.max_body);
  size_t context = kMostContext;
  for (const auto& m : models)
    if (m->hparams().n_ctx > 0) context = std::min<size_t>(context, m->hparams().n_ctx);
  options.scheduler.context = o.context > 0 ? o.context : context;
  options.scheduler.shadow_share = o.base.empty() ? 0 : o.shadow;

  std::vector<std::unique_ptr<Engine>> engines;
  std::vector<serve::ServedModel> served;
  for (size_t i = 0; i < models.size(); ++i) {
    engines.push_back(Engine::make(*models[i], pool, engine_options));
    const std::string alias = i == 0 ? o.alias : o.base_alias;
    served.push_back({alias.empty() ? name_of(i == 0 ? o.model : o.base) : alias, models[i].get(), engines.back().get()});
  }
  if (!serve::is_loopback(options.host) && options.api_key.empty())
    warn(fmt::format("serve: {} can be reached from other machines, and anybody may use it: set TSUBU_API_KEY or --api-key-file", options.host));

  serve::run_server(served, options, pool, [&](int port) {
    const std::string host = options.host.find(':') != std::string::npos && !options.host.starts_with('[') ? "[" + options.host + "]" : options.host;
    const std::string url = fmt::format("http://{}:{}", host, port);
    if (common.json) {
      Json json;
      json["url"] = url;
      json["port"] = port;
      json["models"] = Json::array();
      for (const auto& s : served) json["models"].push_back(s.name);
      json["context"] = options.scheduler.context;
      json["places"] = options.scheduler.n_places;
      json["needs_key"] = !options.api_key.empty();
      print_json(json);
      flush_out();
    }
    std::string names;
    for (const auto& s : served) names += (names.empty() ? "" : " beside ") + s.name;
    note(fmt::format("{}: {} and {}/v1 ({}, context {}, {} at once); Ctrl-C stops it", names, url, url,
                     options.api_key.empty() ? "no key" : "with a key", options.scheduler.context, options.scheduler.n_places));
  });
  return ExitCode::kDone;
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "GGUF file or Hugging Face directory")->required()->type_name(" ");
  declare_adapters(app, o->adapters);
  app.add_option("--compare", o->base, "A second model with the same vocabulary, usually what MODEL was made from")->type_name("BASE");
  app.add_option("--host", o->server.host, "Address to listen on (default 127.0.0.1: this machine only)")->type_name("ADDRESS");
  app.add_option("--port", o->server.port, "Port; 0: a free one (default 8080)")->check(CLI::Range(0, 65535))->type_name("N");
  app.add_option("--api-key-file", o->key_file, "File with the key that requests must carry (or TSUBU_API_KEY)")->type_name("F");
  app.add_option("--alias", o->alias, "Name of MODEL in requests (default: the file's)")->type_name("NAME");
  app.add_option("--base-alias", o->base_alias, "Name of BASE in requests")->type_name("NAME");
  app.add_option("--ctx", o->context, "Tokens of a conversation (default: the model's, at most 4096)")
      ->check(CLI::Range(8, 1 << 20))
      ->type_name("N");
  app.add_option("--parallel", o->server.scheduler.n_places, "Sequences computed at once (default 8)")
      ->check(CLI::Range(1, 256))
      ->type_name("N");
  app.add_option("--queue", o->server.scheduler.max_queued, "Requests that wait; more are told 429 (default 64)")
      ->check(CLI::Range(0, 65536))
      ->type_name("N");
  app.add_option("--prompt-piece", o->server.scheduler.prompt_piece, "Tokens of prompts computed in one step (default 256)")
      ->check(CLI::Range(1, 256))
      ->type_name("N");
  app.add_option("--max-connections", o->server.http.max_connections, "Open connections (default 512)")
      ->check(CLI::Range(1, 65536))
      ->type_name("N");
  app.add_option("--max-body", o->max_body, "Largest request (default 4MiB)")->type_name("SIZE");
  app.add_option("--body-seconds", o->server.http.body_seconds, "A request's body must arrive within this (default 30)")
      ->check(number_between(0.1, 3600))
      ->type_name("S");
  app.add_option("--head-seconds", o->server.http.head_seconds, "Its head within this (default 10)")
      ->check(number_between(0.1, 3600))
      ->type_name("S");
  app.add_option("--shadow", o->shadow, "With --compare: share of MODEL's replies that BASE looks at for /metrics (default 0.05)")
      ->check(number_between(0, 1))
      ->type_name("P");
  app.add_option("--votes", o->server.votes_path, "SQLite file of the blind votes (default tsubu-votes.sqlite3)")->type_name("F");
  app.add_option("--drain-seconds", o->server.drain_seconds, "After SIGTERM open requests get so long (default 30)")
      ->check(number_between(0, 3600))
      ->type_name("S");
  app.add_option("--kv", o->kv, "Keep keys and values as TYPE, or as KEYS/VALUES (q8_0, f16; default f32)")->type_name("TYPE");
  app.add_flag("--act-f32", o->act_f32, "Activations in f32, as eval measures (default: 8 bits, as llama.cpp's CPU path)");
  return [o](const CommonOptions& common) { return run(*o, common); };
}

}  // namespace

extern const Command kServeCommand;
const Command kServeCommand = {"serve", "MODEL [--compare BASE]", "OpenAI-compatible server, and a page to compare two models",
                               "tsubu serve small.gguf --compare base.gguf\n"
                               "curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' -d '{\"model\": \"small\", "
                               "\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'",
                               declare};

}  // namespace tsubu
