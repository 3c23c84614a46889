#include "hub/repo.h"

#include <algorithm>
#include <regex>
#include <set>

#include "base/error.h"
#include "base/size.h"

namespace tsubu {
namespace {

constexpr size_t kMaxFiles = 100000;
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 44;  // 16 TiB
constexpr size_t kListed = 40;

bool is_hex(const std::string& text, size_t n) {
  return text.size() == n && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

std::string text_at(const Json& json, const char* key) {
  const auto it = json.find(key);
  return it != json.end() && it->is_string() ? it->get<std::string>() : "";
}

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string upper(std::string text) {
  for (char& c : text)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return text;
}

bool ends_with_any(const std::string& name, std::initializer_list<std::string_view> endings) {
  return std::any_of(endings.begin(), endings.end(), [&](std::string_view e) { return name.ends_with(e); });
}

// "Q4_K_M" in "x-Q4_K_M", "x.q4_k_m", "Q4_K_M/x", but not in "IQ4_K_M" or "Q4_K_M_L".
bool has_word(const std::string& text, const std::string& word) {
  for (size_t at = text.find(word); at != text.npos; at = text.find(word, at + 1)) {
    const auto is_letter = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
    const bool begins = at == 0 || !is_letter(text[at - 1]);
    const size_t end = at + word.size();
    if (begins && (end == text.size() || (!is_letter(text[end]) && text[end] != '_'))) return true;
  }
  return false;
}

// The name's last word that reads like a type.
std::string type_in(const std::string& name) {
  static const std::regex kType(R"((?:^|[^A-Z0-9])((?:UD-)?(?:I?Q[1-8]|TQ[12])_[A-Z0-9]+(?:_[A-Z0-9]+)*|MXFP4(?:_MOE)?|NVFP4|BF16|F16|F32|FP16|FP32)(?![A-Z0-9_]))");
  const std::string text = upper(name);
  std::string type;
  for (std::sregex_iterator it(text.begin(), text.end(), kType), end; it != end; ++it) type = (*it)[1];
  return type;
}

}  // namespace

const RepoFile* Repo::find(const std::string& name) const {
  const auto it = std::find_if(files.begin(), files.end(), [&](const RepoFile& f) { return f.name == name; });
  return it == files.end() ? nullptr : &*it;
}

Repo repo_from_json(const Json& json, const std::string& id, const std::string& revision, const std::string& where) {
  if (!json.is_object()) fail(ExitCode::kBadInput, "{}: expected an object that describes a model", where);
  Repo repo;
  repo.id = id;
  repo.revision = revision;
  repo.commit = text_at(json, "sha");
  if (!is_commit(repo.commit)) fail(ExitCode::kBadInput, "{}: sha: expected a commit of 40 digits, found '{}'", where, repo.commit.substr(0, 80));
  const auto siblings = json.find("siblings");
  if (siblings == json.end() || !siblings->is_array()) fail(ExitCode::kBadInput, "{}: expected siblings, the list of files", where);
  if (siblings->size() > kMaxFiles) fail(ExitCode::kBadInput, "{}: expected at most {} files, found {}", where, kMaxFiles, siblings->size());
  std::set<std::string> names;
  for (const Json& sibling : *siblings) {
    if (!sibling.is_object()) fail(ExitCode::kBadInput, "{}: siblings: expected objects", where);
    RepoFile file;
    file.name = text_at(sibling, "rfilename");
    check_file_name(file.name, where);
    if (!names.insert(file.name).second) fail(ExitCode::kBadInput, "{}: file '{}' is listed twice", where, file.name);
    const auto lfs = sibling.find("lfs");
    const Json& sized = lfs != sibling.end() && lfs->is_object() ? *lfs : sibling;
    if (const auto size = sized.find("size"); size != sized.end() && size->is_number_unsigned()) file.size_bytes = size->get<uint64_t>();
    if (file.size_bytes > kMaxFileBytes) fail(ExitCode::kBadInput, "{}: file '{}' of {} bytes: expected less than 16 TiB", where, file.name, file.size_bytes);
    file.etag = &sized == &sibling ? text_at(sibling, "blobId") : text_at(*lfs, "sha256");
    if (!is_hex(file.etag, &sized == &sibling ? 40 : 64)) file.etag.clear();
    repo.files.push_back(std::move(file));
  }
  return repo;
}

Repo fetch_repo(HubClient& client, const std::string& id, const std::string& revision) {
  const std::string path = fmt::format("/api/models/{}/revision/{}?blobs=true", id, percent_encode(revision, false));
  const std::string subject = id + (revision == "main" ? "" : "@" + revision);
  return repo_from_json(client.get_json(path, subject), id, revision, subject);
}

std::string file_path(const Repo& repo, const std::string& file) {
  return fmt::format("/{}/resolve/{}/{}", repo.id, repo.commit, percent_encode(file, true));
}

std::vector<GgufChoice> gguf_choices(const std::vector<RepoFile>& files) {
  static const std::regex kShard(R"((.*)-(\d{5})-of-(\d{5}))");
  std::map<std::string, GgufChoice> by_name;
  for (const RepoFile& file : files) {
    if (!file.name.ends_with(".gguf")) continue;
    const std::string base = upper(base_name(file.name));
    if (base.find("MMPROJ") != base.npos || base.find("IMATRIX") != base.npos) continue;
    std::string stem = file.name.substr(0, file.name.size() - 5);
    std::smatch match;
    const std::string whole = stem;
    if (std::regex_match(whole, match, kShard)) stem = fmt::format("{}-of-{}", match[1].str(), match[3].str());
    GgufChoice& choice = by_name[stem];
    choice.name = match.empty() ? stem : match[1].str();
    choice.type = type_in(choice.name);
    choice.files.push_back(file.name);
    choice.size_bytes += file.size_bytes;
  }
  std::vector<GgufChoice> choices;
  for (auto& [stem, choice] : by_name) {
    std::sort(choice.files.begin(), choice.files.end());
    choices.push_back(std::move(choice));
  }
  std::stable_sort(choices.begin(), choices.end(), [](const auto& a, const auto& b) { return a.size_bytes < b.size_bytes; });
  return choices;
}

const GgufChoice& choose_gguf(const std::vector<GgufChoice>& choices, const HubName& name) {
  std::vector<const GgufChoice*> found;
  for (const GgufChoice& choice : choices) {
    if (std::find(choice.files.begin(), choice.files.end(), name.choice) != choice.files.end()) return choice;
    if (name.choice.empty() || has_word(upper(choice.name), upper(name.choice))) found.push_back(&choice);
  }
  if (found.size() == 1) return *found.front();
  // "Q4_K_M" beside "UD-Q4_K_M": who says the one means the one that is called so alone.
  std::vector<const GgufChoice*> exact;
  for (const GgufChoice* choice : found)
    if (choice->type == upper(name.choice)) exact.push_back(choice);
  if (exact.size() == 1) return *exact.front();
  std::string list;
  const std::vector<const GgufChoice*>& shown = found;
  const auto add = [&](const GgufChoice& c) {
    list += fmt::format("\n  {:<10} {:>10}  {}{}", c.type, format_size(c.size_bytes), c.files.front(),
                        c.files.size() > 1 ? fmt::format(" and {} more shards", c.files.size() - 1) : "");
  };
  size_t n = 0;
  if (shown.empty())
    for (const GgufChoice& c : choices)
      if (n++ < kListed) add(c);
  for (const GgufChoice* c : shown)
    if (n++ < kListed) add(*c);
  if (n > kListed) list += fmt::format("\n  and {} more", n - kListed);
  fail(ExitCode::kUsage, "{}: {} GGUF files{}: name one, as {}:{}{}", name.id, found.empty() ? "none of the" : "several",
       name.choice.empty() ? "" : fmt::format(" {} '{}'", found.empty() ? "has" : "have", name.choice), name.id,
       choices.empty() || choices.front().type.empty() ? "FILE" : choices.front().type, list);
}

bool is_side_file(const std::string& name) {
  if (name.find('/') != name.npos) return false;
  if (name.ends_with(".index.json")) return name == kIndexName;
  if (name == "trainer_state.json") return false;
  return ends_with_any(name, {".json", ".jinja", ".model", ".tiktoken"}) || name == "merges.txt" || name == "vocab.txt";
}

bool is_pickle_file(const std::string& name) { return ends_with_any(name, {".bin", ".pt", ".pth", ".ckpt", ".pkl"}); }

RepoKind kind_of(const Repo& repo) {
  const auto any = [&](auto&& test) { return std::any_of(repo.files.begin(), repo.files.end(), test); };
  if (repo.find("config.json") && any([](const RepoFile& f) { return f.name.find('/') == f.name.npos && f.name.ends_with(".safetensors"); }))
    return RepoKind::kSafetensors;
  if (!gguf_choices(repo.files).empty()) return RepoKind::kGguf;
  if (any([](const RepoFile& f) { return is_pickle_file(f.name); })) return RepoKind::kPickle;
  return RepoKind::kNone;
}

std::vector<std::string> weight_files(const Repo& repo, const std::string& index) {
  switch (kind_of(repo)) {
    case RepoKind::kPickle:
      fail(ExitCode::kUnsupported,
           "{}: the only weights are Python pickles: reading one means running code out of it, so they are refused (look for "
           "a revision with safetensors, often {}@refs/pr/…, or for a converted copy: tsubu hub search)",
           repo.id, repo.id);
    case RepoKind::kNone:
      fail(ExitCode::kUnsupported, "{}: expected safetensors with a config.json, or GGUF files: found neither", repo.id);
    default:
      break;
  }
  if (repo.find("model.safetensors")) return {"model.safetensors"};
  if (index.empty())
    fail(ExitCode::kUnsupported, "{}: expected model.safetensors or {} among the safetensors files, found neither", repo.id, kIndexName);
  const std::string where = repo.id + "/" + kIndexName;
  const Json json = parse_json(index, where);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (!json.is_object() || map == json.end() || !map->is_object()) fail(ExitCode::kBadInput, "{}: expected a weight_map", where);
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string()) fail(ExitCode::kBadInput, "{}: weight_map: expected names of files", where);
    shards.insert(shard.get<std::string>());
  }
  for (const std::string& shard : shards)
    if (!repo.find(shard) || !shard.ends_with(".safetensors"))
      fail(ExitCode::kBadInput, "{}: names '{}': expected a safetensors file of the model", where, shard.substr(0, 200));
  return {shards.begin(), shards.end()};
}

}  // namespace tsubu
