#include "cli/adapter_options.h"

#include "hub/model.h"
#include "model/adapter.h"

namespace tsubu {

void declare_adapters(CLI::App& app, std::vector<std::string>& adapters) {
  app.add_option("--adapter", adapters, "Low-rank adapter to add: PEFT's directory or a GGUF adapter; repeatable")
      ->type_name("A")
      ->allow_extra_args(false);
}

std::unique_ptr<Model> open_adapted(const std::string& path, const std::vector<std::string>& adapters) {
  auto model = Model::open(model_path(path));
  for (const std::string& adapter : adapters) add_adapter(*model, read_adapter(adapter, *model));
  return model;
}

}  // namespace tsubu
