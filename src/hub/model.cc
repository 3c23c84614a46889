#include "hub/model.h"

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "base/size.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

// The snapshot as a repository whose files are those that are there.
Repo cached_repo(const RepoCache& cache, const HubName& name, const std::string& commit) {
  Repo repo{name.id, name.revision, commit, {}};
  for (const std::string& file : cache.files(commit)) {
    std::error_code error;
    const uint64_t size = fs::file_size(cache.snapshot_file(commit, file), error);
    repo.files.push_back({file, error ? 0 : size, ""});
  }
  return repo;
}

bool has_tokenizer(const Repo& repo) {
  return std::any_of(repo.files.begin(), repo.files.end(), [](const RepoFile& f) {
    return f.name == "tokenizer.json" || f.name == "vocab.json" || f.name == "vocab.txt" || f.name == "tekken.json" ||
           (f.name.find('/') == f.name.npos && (f.name.ends_with(".model") || f.name.ends_with(".tiktoken")));
  });
}

bool has_all_shards(const GgufChoice& choice) {
  const std::string& first = choice.files.front();
  const size_t of = first.rfind("-of-");
  if (of == first.npos || !first.ends_with(".gguf") || first.size() != of + 4 + 5 + 5) return true;
  return choice.files.size() == static_cast<size_t>(std::atoi(first.substr(of + 4, 5).c_str()));
}

bool wants_gguf(const Repo& repo, const HubName& name) {
  return !name.choice.empty() || kind_of(repo) == RepoKind::kGguf;
}

// Why a file of the repository is not taken, when a person could miss it; empty: no need to say.
std::string reason_left_out(const std::string& file, bool gguf) {
  if (is_pickle_file(file)) return "a Python pickle: reading one means running code out of it";
  if (!gguf && file.ends_with(".safetensors")) return "not among the weights of the directory (another copy of them?)";
  if (!gguf && file.ends_with(".gguf")) return "fetched by name: " + file;
  return "";
}

}  // namespace

HubModel cached_model(const HubEnvironment& environment, const HubName& name) {
  const RepoCache cache(environment.cache, name.id);
  HubModel model{name.id, name.revision, cache.commit_of(name.revision), "", {}, {}, true};
  if (model.commit.empty()) return model;
  const Repo repo = cached_repo(cache, name, model.commit);
  if (wants_gguf(repo, name)) {
    const std::vector<GgufChoice> choices = gguf_choices(repo.files);
    try {
      const GgufChoice& choice = choose_gguf(choices, name);
      if (has_all_shards(choice)) model.path = cache.snapshot_file(model.commit, choice.files.front());
    } catch (const Error&) {
      if (choices.size() > 1 && name.choice.empty()) throw;  // several are here: which?
    }
    return model;
  }
  if (kind_of(repo) != RepoKind::kSafetensors || !has_tokenizer(repo)) return model;
  try {
    const std::string index = repo.find(kIndexName) ? read_text_file(cache.snapshot_file(model.commit, kIndexName), uint64_t{1} << 28) : "";
    weight_files(repo, index);
  } catch (const Error&) {
    return model;  // shards are missing
  }
  model.path = cache.snapshot_folder(model.commit);
  return model;
}

HubModel fetch_model(const HubEnvironment& environment, const HubName& name) {
  HubClient client(environment);
  if (is_pickle_file(name.choice))
    fail(ExitCode::kUnsupported, "{}: {} is a Python pickle: reading one means running code out of it, so it is refused", name.id,
         name.choice);
  const Repo repo = fetch_repo(client, name.id, name.revision);
  const RepoCache cache(environment.cache, name.id);
  HubModel model{name.id, name.revision, repo.commit, "", {}, {}, false};

  const bool gguf = wants_gguf(repo, name);
  std::vector<std::string> wanted;
  std::string index;
  if (gguf) {
    const std::vector<GgufChoice> choices = gguf_choices(repo.files);
    if (choices.empty()) fail(ExitCode::kUsage, "{}: ':{}' names a GGUF file: the model has none", name.id, name.choice);
    wanted = choose_gguf(choices, name).files;
  } else {
    for (const RepoFile& file : repo.files)
      if (is_side_file(file.name)) wanted.push_back(file.name);
    if (const RepoFile* file = repo.find(kIndexName); file && !repo.find("model.safetensors")) {
      Progress progress("get " + name.id + ", index", file->size_bytes, "B");
      download_file(client, cache, repo, *file, progress);
      index = read_text_file(cache.snapshot_file(repo.commit, kIndexName), uint64_t{1} << 28);
    }
    // Weights last: a snapshot that has them is whole.
    for (const std::string& file : weight_files(repo, index)) wanted.push_back(file);
  }

  uint64_t total = 0;
  for (const std::string& file : wanted) total += repo.find(file)->size_bytes;
  {
    Progress progress("get " + name.text(), total, "B");
    for (const std::string& file : wanted) model.files.push_back(download_file(client, cache, repo, *repo.find(file), progress));
    progress.finish();
  }
  cache.set_commit(name.revision, repo.commit);
  for (const RepoFile& file : repo.files)
    if (std::find(wanted.begin(), wanted.end(), file.name) == wanted.end())
      if (const std::string why = reason_left_out(file.name, gguf); !why.empty()) model.left_out.emplace_back(file.name, why);
  model.path = gguf ? cache.snapshot_file(repo.commit, wanted.front()) : cache.snapshot_folder(repo.commit);
  return model;
}

std::string model_path(const std::string& text) {
  const std::optional<HubName> name = parse_hub_name(text);
  if (!name) return text;
  const HubEnvironment environment = HubEnvironment::read();
  const HubModel cached = cached_model(environment, *name);
  if (!cached.path.empty()) return cached.path;
  if (environment.offline)
    fail(ExitCode::kIo, "{}: no such file or directory, and not in the hub cache {}: HF_HUB_OFFLINE is set, so it is not fetched",
         text, environment.cache);
  try {
    return fetch_model(environment, *name).path;
  } catch (const Error& error) {
    if (error.code() != ExitCode::kIo || text.starts_with("hf://")) throw;
    fail(ExitCode::kIo, "{}: no such file or directory; and on the hub: {}", text, error.what());
  }
}

}  // namespace tsubu
