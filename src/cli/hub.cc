// tsubu hub: fetch a model, see what others have published, list what is here.
#include <memory>

#include "base/size.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/table.h"
#include "hub/model.h"
#include "hub/search.h"

namespace tsubu {
namespace {

struct Options {
  std::string action, max_size;
  std::vector<std::string> words;
  SearchOptions search;
};

Json to_json(const HubModel& model) {
  Json json{{"id", model.id}, {"revision", model.revision}, {"commit", model.commit}, {"path", model.path}};
  json["files"] = Json::array();
  uint64_t size = 0, fetched = 0;
  for (const DownloadedFile& f : model.files) {
    json["files"].push_back({{"name", f.name},
                             {"size_bytes", f.size_bytes},
                             {"fetched_bytes", f.fetched_bytes},
                             {"resumed_bytes", f.resumed_bytes},
                             {"checked", f.checked}});
    size += f.size_bytes;
    fetched += f.fetched_bytes;
  }
  json["size_bytes"] = size;
  json["fetched_bytes"] = fetched;
  json["left_out"] = Json::array();
  for (const auto& [file, why] : model.left_out) json["left_out"].push_back({{"name", file}, {"why", why}});
  return json;
}

ExitCode get(const Options& o, const CommonOptions& common) {
  if (o.words.size() != 1) fail(ExitCode::kUsage, "hub get: expected one model, org/name[@revision][:file or type]");
  const HubModel model = fetch_model(HubEnvironment::read(), hub_name_of(o.words.front()));
  if (common.json) {
    print_json(to_json(model));
    return ExitCode::kDone;
  }
  Table table({"file", ">size", ">fetched", "checked by"});
  uint64_t size = 0, fetched = 0;
  for (const DownloadedFile& f : model.files) {
    table.add({printable(f.name), format_size(f.size_bytes), f.fetched_bytes > 0 ? format_size(f.fetched_bytes) : "was here", f.checked});
    size += f.size_bytes;
    fetched += f.fetched_bytes;
  }
  print_out(table.text(2));
  if (!model.left_out.empty()) print_out("\nLeft out\n");
  for (const auto& [file, why] : model.left_out) print_out(fmt::format("  {}: {}\n", printable(file), printable(why)));
  print_out(fmt::format("\n{} at {}: {}, of it {} fetched\n{}\n", model.id, model.commit, format_size(size), format_size(fetched), model.path));
  return ExitCode::kDone;
}

Json to_json(const FoundModel& m) {
  Json json{{"id", m.id},
            {"commit", m.commit},
            {"layout", m.layout},
            {"downloads", m.downloads},
            {"likes", m.likes},
            {"last_modified", m.last_modified},
            {"gated", m.is_gated},
            {"n_weights", m.n_weights}};
  if (!m.problem.empty()) json["problem"] = m.problem;
  json["files"] = Json::array();
  for (const FoundFile& f : m.files)
    json["files"].push_back({{"model", m.id + (f.name.empty() ? "" : ":" + f.name)},
                             {"type", f.type},
                             {"size_bytes", f.size_bytes},
                             {"bits_per_weight", f.bits_per_weight}});
  return json;
}

ExitCode search(const Options& o, const CommonOptions& common) {
  if (o.words.empty()) fail(ExitCode::kUsage, "hub search: expected words to look for");
  SearchOptions options = o.search;
  for (const std::string& word : o.words) options.text += (options.text.empty() ? "" : " ") + word;
  if (!o.max_size.empty()) options.max_size = parse_size_bytes(o.max_size);
  HubClient client(HubEnvironment::read());
  const std::vector<FoundModel> found = search_models(client, options);
  if (common.json) {
    Json json{{"models", Json::array()}};
    for (const FoundModel& m : found) json["models"].push_back(to_json(m));
    print_json(json);
    return ExitCode::kDone;
  }
  if (found.empty()) {
    print_out("nothing found (fewer words, another --layout or --max-size, or a larger --limit)\n");
    return ExitCode::kDone;
  }
  Table table({"model", "layout", "type", ">size", ">bits per weight", ">downloads"});
  for (const FoundModel& m : found) {
    const std::string name = printable(m.id) + (m.is_gated ? " (gated)" : "");
    if (m.files.empty()) table.add({name, m.layout, printable(m.problem), "", "", format_count(m.downloads)});
    for (const FoundFile& f : m.files)
      table.add({name + (f.name.empty() ? "" : ":" + printable(f.name)), printable(m.layout), printable(f.type), format_size(f.size_bytes),
                 f.bits_per_weight > 0 ? fmt::format("{:.2f}", f.bits_per_weight) : "", format_count(m.downloads)});
  }
  print_out(table.text());
  return ExitCode::kDone;
}

ExitCode list(const Options& o, const CommonOptions& common) {
  if (!o.words.empty()) fail(ExitCode::kUsage, "hub list: unexpected '{}'", o.words.front());
  const HubEnvironment environment = HubEnvironment::read();
  const std::vector<CachedRepo> repos = list_cache(environment.cache);
  uint64_t total = 0;
  Json json{{"cache", environment.cache}, {"models", Json::array()}};
  Table table({"model", "revision", "commit", ">files", ">size", "path"});
  for (const CachedRepo& repo : repos) {
    total += repo.size_bytes;
    Json model{{"id", repo.id}, {"path", repo.folder}, {"size_bytes", repo.size_bytes}, {"incomplete_bytes", repo.incomplete_bytes}};
    model["revisions"] = Json::array();
    for (const CachedRevision& r : repo.revisions) {
      model["revisions"].push_back({{"commit", r.commit}, {"refs", r.refs}, {"size_bytes", r.size_bytes}, {"files", r.files}});
      std::string refs;
      for (const std::string& ref : r.refs) refs += (refs.empty() ? "" : ", ") + ref;
      table.add({printable(repo.id), printable(refs), printable(r.commit.substr(0, 12)), fmt::format("{}", r.files.size()),
                 format_size(r.size_bytes), RepoCache(environment.cache, repo.id).snapshot_folder(r.commit)});
    }
    if (repo.incomplete_bytes > 0) table.add({printable(repo.id), "", "", "", format_size(repo.incomplete_bytes), "not complete: hub get goes on"});
    json["models"].push_back(std::move(model));
  }
  json["size_bytes"] = total;
  if (common.json)
    print_json(json);
  else
    print_out((table.empty() ? "" : table.text() + "\n") + fmt::format("{}: {} models, {}\n", environment.cache, repos.size(), format_size(total)));
  return ExitCode::kDone;
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("ACTION", o->action, "get, search or list")
      ->required()
      ->type_name(" ")
      ->transform(CLI::IsMember({"get", "search", "list"}).description(""));
  app.add_option("NAME", o->words, "get: org/name[@revision][:GGUF file or type]; search: words")->type_name(" ");
  auto* layout = app.add_option("--layout", o->search.layout, "search: gguf, hf (floats), gptq, awq, compressed-tensors, bitsandbytes, fp8 …")
                     ->type_name("LAYOUT");
  auto* size = app.add_option("--max-size", o->max_size, "search: only what is at most so large")->type_name("S");
  auto* limit = app.add_option("--limit", o->search.limit, "search: models looked at, the most downloaded first (default 20)")
                    ->check(CLI::Range(1, 1000))
                    ->type_name("N");
  return [=](const CommonOptions& common) {
    if (o->action != "search")
      for (const CLI::Option* option : {layout, size, limit})
        if (option->count() > 0) fail(ExitCode::kUsage, "hub {}: {} belongs to hub search", o->action, option->get_name());
    return o->action == "get" ? get(*o, common) : o->action == "search" ? search(*o, common) : list(*o, common);
  };
}

}  // namespace

extern const Command kHubCommand;
const Command kHubCommand = {"hub", "get|search|list [NAME]", "Models of the hub: fetch, look for, list what is cached",
                             "tsubu hub get org/name\n"
                             "tsubu hub get org/name-GGUF:Q4_K_M\n"
                             "tsubu hub search llama 1b --layout gguf --max-size 2GiB\n"
                             "tsubu hub list",
                             declare};

}  // namespace tsubu
