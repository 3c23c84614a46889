#include "cli/layout_output.h"

#include <algorithm>
#include <map>

#include "base/progress.h"
#include "base/size.h"
#include "cli/output.h"
#include "cli/table.h"
#include "round/methods.h"

namespace tsubu {
namespace {

constexpr size_t kWorstShown = 5;

std::string percent(double share) { return fmt::format("{:.3g} %", 100 * share); }

}  // namespace

void declare_layout_options(CLI::App& app, LayoutOutputOptions& o) {
  app.add_option("--group-size", o.group_size, "Columns that share a scale, with --format (default: the scheme's)")
      ->check(CLI::Range(2, 1 << 20))
      ->type_name("N");
  app.add_option("--method", o.method,
                 "Rounding, with --format: nearest, search, hqq, gptq, also METHOD+refine (default: search; with Gram "
                 "matrices gptq+refine)")
      ->type_name("METHOD");
  app.add_option("--base", o.base, "With --format: directory that config.json and tokenizer files come from")
      ->type_name("DIR");
  app.add_option("--shard-size", o.shard, "With --format: size of a safetensors file at most (default 5GiB)")
      ->type_name("S");
}

WriteLayoutOptions layout_options(const LayoutOutputOptions& o, const std::string& format, const CommonOptions& common) {
  WriteLayoutOptions options;
  if (format != "hf") options.scheme = &layout_scheme(format, o.to);
  if (format == "hf" && !o.to.empty()) fail(ExitCode::kUsage, "--to {}: --format hf writes floats: give --dtype", o.to);
  options.group_size = o.group_size;
  if (!o.method.empty()) options.method = parse_sim_method(o.method, o.passes);
  options.base = o.base;
  options.shard_bytes = parse_size_bytes(o.shard);
  options.n_threads = common.threads;
  return options;
}

void adopt_source_scheme(const Model& model, WriteLayoutOptions& options) {
  std::map<std::string, uint64_t> weights;  // of each kind
  std::map<std::string, const QuantMatrix*> example;
  for (const ModelTensor& t : model.tensors())
    if (const QuantMatrix* m = t.quantized()) {
      weights[m->kind()] += t.n_elements();
      example.emplace(m->kind(), m);
    }
  if (weights.empty()) return;
  const auto most = std::max_element(weights.begin(), weights.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  const QuantMatrix& m = *example.at(most->first);
  bool symmetric = true;
  if (m.has_zeros()) {
    std::vector<float> scales(m.n_groups()), zeros(m.n_groups());
    for (uint64_t row = 0; row < m.n_rows(); ++row) {
      m.read_scales(row, 1, scales.data(), zeros.data());
      const float middle = m.levels()[0] < 0 ? 0 : static_cast<float>(1 << (m.code_bits() - 1));
      symmetric = symmetric && std::all_of(zeros.begin(), zeros.end(), [&](float z) { return z == middle; });
    }
  }
  for (const LayoutScheme& scheme : layout_schemes()) {
    if (scheme.method != options.scheme->method || scheme.is_block()) continue;
    const SimFormat f = SimFormat::parse(scheme.format);
    if (f.family != "int" || f.code_bits != m.code_bits() || (f.zero == SimZero::kNone) != symmetric) continue;
    const bool by_channel = m.n_groups() == 1;
    if ((f.granularity == SimGranularity::kChannel) != by_channel && f.granularity != SimGranularity::kGroup) continue;
    options.scheme = &scheme;
    if (f.granularity == SimGranularity::kGroup && options.group_size == 0 && m.group_columns() != f.group)
      options.group_size = m.group_columns();
    return;
  }
}

void print_layout_result(const WriteLayoutResult& r, const std::string& output, const CommonOptions& common,
                         const std::optional<Repetition>& repetition) {
  if (common.json) {
    Json json = to_json(r);
    if (repetition) json["repeated"] = to_json(*repetition);
    print_json(json);
    return;
  }
  struct Share {
    uint64_t n_tensors = 0, size_bytes = 0;
    double worst = 0;
  };
  std::map<std::string, Share> shares;
  for (const WrittenTensor& t : r.tensors) {
    Share& share = shares[t.layout == "float" ? t.kind : t.kind + ", " + t.method];
    ++share.n_tensors;
    share.size_bytes += t.size_bytes;
    share.worst = std::max(share.worst, t.rel_rmse);
  }
  Table table({"stored as", ">tensors", ">size", ">worst error"});
  for (const auto& [kind, share] : shares)
    table.add({kind, fmt::format("{}", share.n_tensors), format_size(share.size_bytes), share.worst > 0 ? percent(share.worst) : "-"});
  std::string text = table.text(2);
  std::vector<const WrittenTensor*> worst;
  for (const WrittenTensor& t : r.tensors)
    if (t.rel_rmse > 0) worst.push_back(&t);
  std::stable_sort(worst.begin(), worst.end(), [](const auto* a, const auto* b) { return a->rel_rmse > b->rel_rmse; });
  if (worst.size() > kWorstShown) worst.resize(kWorstShown);
  if (!worst.empty()) {
    Table errors({"tensor", "method", ">error", ">output error"});
    for (const WrittenTensor* t : worst)
      errors.add({t->name, t->method, percent(t->rel_rmse), t->rel_output < 0 ? "-" : percent(t->rel_output)});
    text += "\nLargest errors (root mean square of the error over that of the weights, of the files as written)\n" + errors.text(2);
  }
  if (!r.notes.empty()) text += "\nNotes\n";
  for (const std::string& line : r.notes) text += "  " + line + "\n";
  text += fmt::format("\n{}: {}{}, {} → {}, {:.4f} bits per weight\n", output, r.method, r.scheme.empty() ? "" : " " + r.scheme,
                      format_size(r.source_bytes), format_size(r.size_bytes), r.bits_per_weight);
  text += fmt::format("{}, peak memory {}\n", format_duration(r.seconds), format_size(r.peak_rss_bytes));
  if (repetition) text += repetition_text(*repetition);
  print_out(text);
}

}  // namespace tsubu
