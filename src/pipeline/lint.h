// What a checkpoint really is and what is wrong with it, whatever its layout. One list of checks (lint.cc): each looks at a
// subject that was opened as far as it could be.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/threads.h"
#include "checkpoint/hf_directory.h"
#include "container/gguf.h"
#include "model/model.h"

namespace tsubu {

enum class LintLevel { kError, kWarning, kNote };
std::string_view lint_level_name(LintLevel level);

struct Finding {
  LintLevel level = LintLevel::kNote;
  std::string check;    // "scales", "quantization-config" …
  std::string where;    // file, tensor or key
  std::string message;  // what, expected, found
};

// What there is to look at; the parts that could not be opened are nullptr.
struct LintSubject {
  std::string path;
  std::unique_ptr<HfDirectory> directory;
  std::unique_ptr<GgufFile> gguf;
  std::unique_ptr<Model> model;
  ThreadPool* pool = nullptr;
};

using Report = std::function<void(LintLevel level, const std::string& where, const std::string& message)>;

struct LintCheck {
  std::string_view name, summary;
  void (*run)(const LintSubject& subject, const Report& report);
};
std::span<const LintCheck> lint_checks();

// Numbers of one quantized module.
struct ModuleStatistics {
  std::string name, layout, kind;
  uint64_t n_weights = 0, n_groups = 0, n_inputs = 0;
  uint64_t n_bad_scales = 0, n_zero_scales = 0, n_negative_scales = 0;
  uint64_t n_dead_groups = 0;      // every code decodes to 0
  uint64_t n_saturated_groups = 0;  // a quarter of the codes or more on the outermost levels
  uint64_t n_codes_used = 0, n_codes = 0;
  double code_entropy = 0;          // bits
  double mean_offset = 0;           // mean of level - zero, in levels
  double rms = 0;                   // of the values
};
ModuleStatistics module_statistics(const std::string& name, const QuantizedModule& module, ThreadPool& pool);

struct LintResult {
  std::string path, layout;        // "gguf", "hf", "gptq" …
  std::string method;              // what the configuration says
  std::vector<Finding> findings;   // errors first
  std::vector<ModuleStatistics> modules;
  size_t count(LintLevel level) const;
};

// Never throws for what is wrong with the checkpoint: that is a finding. Throws Error(kIo) when the path is not there.
LintResult lint(const std::string& path, ThreadPool& pool);
Json to_json(const LintResult& result);

// The checks, by file.
void lint_open(const LintSubject&, const Report&);
void lint_files(const LintSubject&, const Report&);
void lint_quantization_config(const LintSubject&, const Report&);
void lint_gptq_config(const LintSubject&, const Report&);
void lint_compressed_tensors_config(const LintSubject&, const Report&);
void lint_floats(const LintSubject&, const Report&);
void lint_gguf_blocks(const LintSubject&, const Report&);
void lint_types(const LintSubject&, const Report&);
void lint_fused_scales(const LintSubject&, const Report&);
// From the modules' numbers, which are made once.
void lint_modules(const LintSubject&, std::span<const ModuleStatistics>, const Report&);

}  // namespace tsubu
