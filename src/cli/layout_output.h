// What convert and quantize share when they write a Hugging Face layout.
#pragma once

#include <optional>
#include <string>

#include "cli/command.h"
#include "cli/manifest_options.h"
#include "pipeline/write_layout.h"

namespace tsubu {

struct LayoutOutputOptions {
  std::string to, method = "", base, shard = "5GiB";
  uint64_t group_size = 0;
  int passes = 4;
};

// --group-size, --method, --base, --shard-size.
void declare_layout_options(CLI::App& app, LayoutOutputOptions& o);
// format: "hf" or a quant_method. Throws Error(kUsage). The method is left to the caller's statistics: see default_method.
WriteLayoutOptions layout_options(const LayoutOutputOptions& o, const std::string& format, const CommonOptions& common);
// Width, groups and zeros of a quantized source, when the method has such a scheme: then codes are carried over.
void adopt_source_scheme(const Model& model, WriteLayoutOptions& options);
void print_layout_result(const WriteLayoutResult& result, const std::string& output, const CommonOptions& common,
                         const std::optional<Repetition>& repetition = {});

}  // namespace tsubu
