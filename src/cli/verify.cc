// tsubu verify: whether files are what a manifest says; exit code 1 when one is not.
#include <filesystem>
#include <memory>

#include "base/size.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/table.h"
#include "hub/model.h"
#include "pipeline/manifest.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string manifest, model;
};

// A manifest, a file or a directory that has one.
std::string manifest_of(const std::string& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) return (fs::path(path) / kDirectoryManifest).string();
  if (path.ends_with(".json") || !fs::exists(path, error)) return path;
  if (!fs::exists(manifest_path(path), error))
    fail(ExitCode::kIo, "{}: no manifest beside it: expected {} (name it, or quantize again without --no-manifest)", path,
         manifest_path(path));
  return manifest_path(path);
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("OUTPUT", o->manifest, "OUT.gguf, a directory, or the manifest itself")->required()->type_name(" ");
  app.add_option("--model", o->model, "Check the model that it was made from, too")->type_name("MODEL");
  return [o](const CommonOptions& common) {
    const std::string path = manifest_of(o->manifest);
    const Json manifest = read_manifest(path);
    const fs::path folder = fs::path(path).parent_path();
    std::vector<CheckedFile> files = check_files(manifest["output"], folder.empty() ? "." : folder.string());
    if (!o->model.empty()) {
      const fs::path model = model_path(o->model);
      std::error_code error;
      const fs::path where = fs::is_directory(model, error) ? model : model.parent_path();
      for (CheckedFile& file : check_files(manifest["inputs"]["model"]["files"], where.empty() ? "." : where.string())) {
        file.name = (where / file.name).string();
        files.push_back(std::move(file));
      }
    }
    bool ok = true;
    Json json{{"manifest", path}, {"ok", true}, {"files", Json::array()}};
    Table table({"file", ">size", "SHA-256", ""});
    for (const CheckedFile& f : files) {
      ok &= f.ok();
      const char* state = f.ok() ? "ok" : f.found.empty() ? "missing" : "other bytes";
      json["files"].push_back({{"name", f.name}, {"size_bytes", f.size_bytes}, {"expected", f.expected}, {"found", f.found}, {"state", state}});
      table.add({printable(f.name), format_size(f.size_bytes), printable(f.expected.substr(0, 16)), state});
    }
    json["ok"] = ok;
    if (common.json)
      print_json(json);
    else
      print_out(table.text() + fmt::format("\n{}: {}\n", path, ok ? "every file is what it says" : "NOT what it says"));
    return ok ? ExitCode::kDone : ExitCode::kGateFailed;
  };
}

}  // namespace

extern const Command kVerifyCommand;
const Command kVerifyCommand = {"verify", "OUTPUT", "Files against the manifest of how they were made",
                                "tsubu verify model-q4.gguf\n"
                                "tsubu verify model-q4.gguf --model hf_directory",
                                declare};

}  // namespace tsubu
