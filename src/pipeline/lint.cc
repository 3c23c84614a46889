#include "pipeline/lint.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/error.h"
#include "base/progress.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

// To add a check: write its function and one line here.
constexpr LintCheck kChecks[] = {
    {"files", "index, metadata, pickles, tokenizer and other files", lint_files},
    {"model", "architecture, missing and surplus tensors, shapes, vocabulary", lint_open},
    {"quantization-config", "what the configuration calls the tensors, and what they are", lint_quantization_config},
    {"gptq-config", "bits, groups, order and zeros of GPTQ and AWQ", lint_gptq_config},
    {"compressed-tensors-config", "keys and arguments that loaders refuse", lint_compressed_tensors_config},
    {"floats", "NaN, infinity, tensors of zeros", lint_floats},
    {"gguf-blocks", "scales in GGUF blocks that are no numbers", lint_gguf_blocks},
    {"types", "norms and biases in few bits, layers that differ from the rest", lint_types},
    {"fused-scales", "one global scale for what runtimes fuse", lint_fused_scales},
};
constexpr uint64_t kPieceWeights = uint64_t{1} << 16;
constexpr uint64_t kSaturatedShare = 4;  // one code in so many on the outermost levels

}  // namespace

std::span<const LintCheck> lint_checks() { return kChecks; }

std::string_view lint_level_name(LintLevel level) {
  return level == LintLevel::kError ? "error" : level == LintLevel::kWarning ? "warning" : "note";
}

size_t LintResult::count(LintLevel level) const {
  return static_cast<size_t>(
      std::count_if(findings.begin(), findings.end(), [&](const Finding& f) { return f.level == level; }));
}

ModuleStatistics module_statistics(const std::string& name, const QuantizedModule& module, ThreadPool& pool) {
  const QuantMatrix& m = *module.matrix;
  const uint64_t n = m.n_cols(), groups = m.n_groups(), step = std::max<uint64_t>(1, kPieceWeights / n);
  struct Piece {
    uint64_t bad = 0, zero = 0, negative = 0, dead = 0, saturated = 0;
    std::vector<uint64_t> used = std::vector<uint64_t>(256);
    double offset = 0, squares = 0;
  };
  std::vector<Piece> pieces((m.n_rows() + step - 1) / step);
  const auto& levels = m.levels();
  const int n_levels = 1 << m.code_bits();
  float low = INFINITY, high = -INFINITY;
  for (int c = 0; c < n_levels; ++c)
    if (std::isfinite(levels[static_cast<size_t>(c)])) {
      low = std::min(low, levels[static_cast<size_t>(c)]);
      high = std::max(high, levels[static_cast<size_t>(c)]);
    }
  pool.parallel_for(pieces.size(), [&](size_t item, int) {
    const uint64_t first = item * step, rows = std::min(step, m.n_rows() - first);
    std::vector<uint8_t> codes(rows * n);
    std::vector<float> scales(rows * groups), zeros(rows * groups);
    m.read_codes(first, rows, codes.data());
    m.read_scales(first, rows, scales.data(), zeros.data());
    Piece& p = pieces[item];
    std::vector<uint64_t> dead(groups), outer(groups), count(groups);
    for (uint64_t r = 0; r < rows; ++r) {
      std::fill(dead.begin(), dead.end(), 0);
      std::fill(outer.begin(), outer.end(), 0);
      std::fill(count.begin(), count.end(), 0);
      for (uint64_t k = 0; k < n; ++k) {
        const uint64_t g = m.group_of_column().empty() ? k / m.group_columns() : m.group_of_column()[k];
        const uint8_t code = codes[r * n + k];
        const float level = levels[code], offset = level - zeros[r * groups + g];
        ++p.used[code];
        ++count[g];
        dead[g] += offset == 0;
        outer[g] += level == low || level == high;
        p.offset += static_cast<double>(offset);
        const double value = static_cast<double>(offset) * static_cast<double>(scales[r * groups + g]);
        p.squares += value * value;
      }
      for (uint64_t g = 0; g < groups; ++g) {
        const float s = scales[r * groups + g];
        p.bad += !std::isfinite(s);
        p.zero += s == 0;
        p.negative += s < 0;
        p.dead += dead[g] == count[g];
        p.saturated += m.code_bits() > 2 && count[g] >= 16 && outer[g] * kSaturatedShare >= count[g];
      }
    }
  });
  ModuleStatistics s;
  s.name = name;
  s.layout = module.layout->name;
  s.kind = m.kind();
  s.n_weights = m.n_rows() * n;
  s.n_inputs = n;
  s.n_groups = m.n_rows() * groups;
  s.n_codes = static_cast<uint64_t>(n_levels);
  std::vector<uint64_t> used(256);
  for (const Piece& p : pieces) {
    s.n_bad_scales += p.bad;
    s.n_zero_scales += p.zero;
    s.n_negative_scales += p.negative;
    s.n_dead_groups += p.dead;
    s.n_saturated_groups += p.saturated;
    s.mean_offset += p.offset;
    s.rms += p.squares;
    for (size_t c = 0; c < 256; ++c) used[c] += p.used[c];
  }
  const auto total = static_cast<double>(s.n_weights);
  s.mean_offset /= total;
  s.rms = std::sqrt(s.rms / total);
  for (uint64_t u : used) {
    if (u == 0) continue;
    ++s.n_codes_used;
    const double share = static_cast<double>(u) / total;
    s.code_entropy -= share * std::log2(share);
  }
  return s;
}

LintResult lint(const std::string& path, ThreadPool& pool) {
  LintResult result;
  result.path = path;
  LintSubject subject;
  subject.path = path;
  subject.pool = &pool;
  const auto reporter = [&](std::string_view check) {
    return [&result, check](LintLevel level, const std::string& where, const std::string& message) {
      result.findings.push_back({level, std::string(check), where, message});
    };
  };
  std::error_code error;
  if (!fs::exists(path, error)) fail(ExitCode::kIo, "{}: no such file or directory", path);
  try {
    if (fs::is_directory(path, error)) {
      subject.directory = std::make_unique<HfDirectory>(HfDirectory::open(path));
      result.layout = subject.directory->quantized.by_name.empty() ? "hf" : subject.directory->quantized.layout_names();
      result.method = subject.directory->quantization.method;
    } else {
      subject.gguf = std::make_unique<GgufFile>(GgufFile::open(path));
      result.layout = "gguf";
    }
  } catch (const Error& e) {
    reporter("open")(LintLevel::kError, path, e.what());
    return result;
  }
  for (const LintCheck& check : lint_checks()) {
    throw_if_interrupted();
    if (check.run == lint_open) {
      try {
        subject.model = Model::open(path);
      } catch (const Error& e) {
        const bool unknown = e.code() == ExitCode::kUnsupported;
        reporter("model")(unknown ? LintLevel::kNote : LintLevel::kError, path, e.what());
        continue;
      }
    }
    check.run(subject, reporter(check.name));
  }
  if (subject.directory) {
    Progress progress("lint", subject.directory->quantized.by_name.size(), "modules");
    for (const auto& [name, module] : subject.directory->quantized.by_name) {
      throw_if_interrupted();
      result.modules.push_back(module_statistics(name, module, pool));
      progress.advance(1, name);
    }
    progress.finish();
    lint_modules(subject, result.modules, reporter("scales"));
  }
  std::stable_sort(result.findings.begin(), result.findings.end(),
                   [](const Finding& a, const Finding& b) { return a.level < b.level; });
  return result;
}

Json to_json(const LintResult& r) {
  Json json;
  json["path"] = r.path;
  json["layout"] = r.layout;
  json["method"] = r.method;
  json["errors"] = r.count(LintLevel::kError);
  json["warnings"] = r.count(LintLevel::kWarning);
  json["findings"] = Json::array();
  for (const Finding& f : r.findings)
    json["findings"].push_back(
        Json{{"level", lint_level_name(f.level)}, {"check", f.check}, {"where", f.where}, {"message", f.message}});
  json["modules"] = Json::array();
  for (const ModuleStatistics& m : r.modules)
    json["modules"].push_back(Json{{"name", m.name},
                                   {"layout", m.layout},
                                   {"kind", m.kind},
                                   {"n_weights", m.n_weights},
                                   {"n_groups", m.n_groups},
                                   {"bad_scales", m.n_bad_scales},
                                   {"zero_scales", m.n_zero_scales},
                                   {"negative_scales", m.n_negative_scales},
                                   {"dead_groups", m.n_dead_groups},
                                   {"saturated_groups", m.n_saturated_groups},
                                   {"codes_used", m.n_codes_used},
                                   {"codes", m.n_codes},
                                   {"code_entropy", m.code_entropy},
                                   {"rms", std::isfinite(m.rms) ? Json(m.rms) : Json(nullptr)}});
  return json;
}

}  // namespace tsubu
