#include "cli/manifest_options.h"

#include <algorithm>
#include <filesystem>

namespace tsubu {
namespace {

namespace fs = std::filesystem;

// Say where things lie, how to show them, or how fast: nothing of what is in the output.
constexpr std::string_view kNotKept[] = {"--output", "--json", "--threads", "--quiet", "--help", "--dry-run", "--no-manifest",
                                          "--no-checkpoint"};
// How the types were found; what was found is the manifest's recipe.
constexpr std::string_view kOfThePlan[] = {"--recipe", "--size", "--bpw", "--max-kld", "--allow", "--fused", "--probes", "--verify", "--costs"};
constexpr std::string_view kFiles[] = {"--text", "--stats", "--refine", "--base", "--start", "--adapter"};

template <size_t n>
bool is_one_of(std::string_view name, const std::string_view (&names)[n]) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

std::string file_name(const std::string& value) {
  const fs::path path(value);
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

// "name:0.5" → "name": a text's weight follows its name.
std::string without_weight(const std::string& option, const std::string& value) {
  return option == "--text" ? value.substr(0, value.rfind(':')) : value;
}

std::string digest_named(const Json& manifest, const std::string& name) {
  for (const auto& [kind, files] : manifest["inputs"].items())
    if (files.is_array())
      for (const Json& file : files)
        if (file.is_object() && file.value("name", "") == name) return file.value("sha256", "");
  return "";
}

std::string located(const Json& manifest, const std::string& path, const std::string& option, const std::string& value) {
  const std::string name = without_weight(option, value);
  if (name.find('/') != name.npos) fail(ExitCode::kBadInput, "{}: options: {} {}: expected a name without folders", path, option, value);
  std::error_code error;
  for (const fs::path& folder : {fs::path(path).parent_path(), fs::path()}) {
    // A directory, or a text whose name has a colon in it, is found as it is.
    if (fs::exists(folder / value, error)) return (folder / value).string();
    if (fs::exists(folder / name, error)) return (folder / value).string();
  }
  const std::string digest = digest_named(manifest, name);
  fail(ExitCode::kUsage, "{}: was made with {} {}{}, which is neither beside it nor here: say where it is with {}", path, option, value,
       digest.empty() ? "" : " (SHA-256 " + digest + ")", option);
}

}  // namespace

Json given_options(const CLI::App& app) {
  Json json = Json::object();
  for (const CLI::Option* option : app.get_options()) {
    const std::string name = option->get_name();
    if (option->count() == 0 || !name.starts_with("--") || is_one_of(name, kNotKept)) continue;
    std::vector<std::string> values = option->results();
    if (is_one_of(name, kFiles) || name == "--recipe" || name == "--costs")
      for (std::string& value : values) value = file_name(value);
    json[name] = values;
  }
  return json;
}

std::vector<std::string> repeated_words(const Json& manifest, const std::string& path, const CLI::App& given) {
  const std::string command = manifest.value("command", "");
  if (command != "quantize")
    fail(ExitCode::kUsage, "{}: was made by tsubu {}: --recipe repeats what quantize made", path, command.empty() ? "?" : command);
  std::vector<std::string> words;
  for (const CLI::Option* option : given.get_options()) {
    const std::string name = option->get_name();
    if (option->count() == 0 || name == "--recipe") continue;
    if (!name.starts_with("--")) {
      for (const std::string& value : option->results()) words.push_back(value);
    } else if (is_one_of(name, kNotKept)) {
      if (name == "--output") words.insert(words.end(), {name, option->results().front()});
      if (name == "--dry-run") words.push_back(name);
    } else if (!is_one_of(name, kFiles)) {
      fail(ExitCode::kUsage, "--recipe {} repeats what a manifest says: leave {} out (or use a recipe instead: tsubu recipes)", path, name);
    }
  }
  const bool is_gguf = manifest.contains("treatment");
  // A text that only the plan was measured on: the plan is there.
  const bool without_text = is_gguf && !manifest["treatment"].contains("text");
  const auto is_left_out = [&](const std::string& name) {
    return is_one_of(name, kOfThePlan) || (is_gguf && name == "--to") || (without_text && name == "--text");
  };
  for (const auto& [name, values] : manifest["options"].items()) {
    if (!name.starts_with("--") || !values.is_array()) fail(ExitCode::kBadInput, "{}: options: {}: expected a list of values", path, name);
    if (is_left_out(name)) continue;
    const CLI::Option* option = given.get_option_no_throw(name);
    if (!option) fail(ExitCode::kUnsupported, "{}: option {}: this version of tsubu does not know it", path, name);
    std::vector<std::string> texts;
    for (const Json& value : values) {
      if (!value.is_string()) fail(ExitCode::kBadInput, "{}: options: {}: expected texts", path, name);
      texts.push_back(value.get<std::string>());
    }
    if (is_one_of(name, kFiles)) {
      if (option->count() > 0 && option->count() != texts.size())
        fail(ExitCode::kUsage, "{}: was made with {} times {}: expected as many, found {}", path, texts.size(), name, option->count());
      for (size_t i = 0; i < texts.size(); ++i)
        texts[i] = option->count() > 0 ? option->results()[i] : located(manifest, path, name, texts[i]);
    }
    const bool is_flag = option->get_expected_max() == 0;
    for (const std::string& value : texts) {
      words.push_back(name);
      if (!is_flag) words.push_back(value);
    }
  }
  for (const CLI::Option* option : given.get_options())
    if (option->count() > 0 && is_one_of(option->get_name(), kFiles) &&
        (!manifest["options"].contains(option->get_name()) || is_left_out(option->get_name())))
      fail(ExitCode::kUsage, "{}: was made without {}: leave it out", path, option->get_name());
  return words;
}

Repetition compare_repetition(const std::string& path, const Json& before, const Json& now) {
  Repetition r{path, manifest_changes(before, now), false};
  std::vector<std::string> a, b;
  for (const Json& file : before["output"]) a.push_back(file.is_object() ? file.value("sha256", "") : "");
  for (const Json& file : now["output"]) b.push_back(file.value("sha256", ""));
  r.same_bytes = a == b;
  return r;
}

std::string repetition_text(const Repetition& r) {
  if (r.same_bytes) return fmt::format("the same bytes as {} says\n", r.manifest);
  if (r.is_broken())
    return fmt::format("the inputs and the treatment are those of {}, but the bytes are others\n", r.manifest);
  std::string text = fmt::format("treated as {} says; what changed:\n", r.manifest);
  for (const std::string& line : r.changes) text += "  " + line + "\n";
  return text;
}

Json to_json(const Repetition& r) {
  return {{"manifest", r.manifest}, {"same_bytes", r.same_bytes}, {"changes", r.changes}};
}

}  // namespace tsubu
