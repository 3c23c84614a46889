#include "report/explain.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "base/error.h"
#include "base/size.h"
#include "codec/grid.h"
#include "codec/type_info.h"
#include "round/methods.h"

namespace tsubu {
namespace {

constexpr size_t kShown = 8;             // weights of the worked example
constexpr double kExampleWeights = 8e9;  // of the model whose size is given

constexpr int kMostLevels = 20;  // printed in full

bool same_name(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) {
           return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
         });
}

std::string levels_text(const GridSpec& g) {
  std::string text;
  for (int i = 0; i < g.n_levels; ++i) {
    if (g.n_levels > kMostLevels && i == 4) {
      text += " …";
      i = g.n_levels - 4;
    }
    text += fmt::format(" {:g}", static_cast<double>(g.levels[i]));
  }
  return text;
}

std::string worked_example(const TypeInfo& type, const ExampleRow& row, bool ja) {
  const size_t n = row.values.size() / type.block_len * type.block_len;
  if (n == 0)
    return fmt::format(fmt::runtime(ja ? "\n{} の {} 個の重みは {} 個のブロックに足りません。\n"
                                       : "\n{}: {} weights are fewer than a block of {}.\n"),
                       row.source, row.values.size(), type.block_len);
  if (!type.encode)
    return ja ? "\nこの形式は読むだけで、書くことはできません。\n" : "\nThis type is read, not written.\n";
  const std::span<const float> values = std::span(row.values).first(n);
  std::vector<std::byte> blocks(tensor_bytes(type, 1, n));
  type.encode(values.data(), nullptr, blocks.data(), n);
  const std::vector<float> back = stored_as(values, type);
  const double error = relative_error(values, back);
  std::string text =
      type.block_len == 1
          ? fmt::format(fmt::runtime(ja ? "\n実例: {}\n" : "\nWorked example: {}\n"), row.source)
          : fmt::format(fmt::runtime(ja ? "\n実例: {}、最初のブロック（{} 個、{} バイト）\n"
                                                 : "\nWorked example: {}, its first block ({} weights, {} bytes)\n"),
                                 row.source, type.block_len, type.block_bytes);
  GridBlock block{};
  if (type.grid) {
    type.grid->unpack(blocks.data(), block);
    text += fmt::format("  d = {:g}", static_cast<double>(block.d.value()));
    if (type.grid->spec.has_offset()) text += fmt::format(", dmin = {:g}", static_cast<double>(block.dmin.value()));
    if (type.grid->spec.has_scales()) text += fmt::format(", scale[0] = {}", block.scale[0]);
    if (type.grid->spec.has_mins()) text += fmt::format(", min[0] = {}", block.min[0]);
    text += "\n";
  }
  text += fmt::format("  {:>12} {:>8} {:>12} {:>12}\n", "w", type.grid ? "code" : "", "ŵ", "ŵ − w");
  for (size_t i = 0; i < std::min<size_t>(kShown, n); ++i)
    text += fmt::format("  {:>12.6f} {:>8} {:>12.6f} {:>+12.6f}\n", row.values[i],
                        type.grid ? fmt::format("{}", block.codes[i]) : "", back[i] + 0.0f, back[i] - row.values[i]);  // no -0
  if (type.grid) {
    const GridSpec& g = type.grid->spec;
    const double level = static_cast<double>(g.levels[block.codes[0]]), d = static_cast<double>(block.d.value());
    text += fmt::format("  ŵ[0] = {:g}", d);
    if (g.has_scales()) text += fmt::format(" · {}", block.scale[0]);
    text += fmt::format(" · {:g}", level);
    if (g.has_offset()) text += fmt::format(" − {:g}", static_cast<double>(block.dmin.value()));
    if (g.has_mins()) text += fmt::format(" · {}", block.min[0]);
    text += fmt::format(" = {:.6f}\n", back[0] + 0.0f);
  }
  text += fmt::format(fmt::runtime(ja ? "  行全体 {} 個の相対誤差: {:.3g} %\n"
                                      : "  relative error over {} weights of the row: {:.3g} %\n"),
                      n, 100 * error);
  if (error == 0 && std::any_of(values.begin(), values.end(), [](float v) { return v != 0; }))
    text += ja ? "  この行はすでにこの形式で表せる値なので、何も失われません。元のモデルを渡すと誤差が見えます。\n"
               : "  The row holds values of this type already, so nothing is lost: give the original model to see what it costs.\n";
  return text;
}

// Types that no weights of a model are stored in.
std::string_view other_use(const TypeInfo& t, bool ja) {
  if (t.name.starts_with("Q8_") && !t.encode)
    return ja ? "重みには使いません。実行環境が計算の途中で活性値を持つ形です。" : "Not for weights: runtimes keep activations so while they compute.";
  if (!t.is_quantized && !t.encode)
    return ja ? "重みには使いません。表や位置などのデータの型です。" : "Not for weights: a type of data such as tables and positions.";
  return "";
}

std::string computation(const TypeInfo& t, bool ja) {
  if (t.lattice)
    return ja ? "計算: いくつかの重みをまとめて格子の点に置き換え、スケールを掛けます。点の番号だけを保存します。\n"
              : "Computes: a few weights together become a point of a fixed grid, times a scale; what is stored is the point's number.\n";
  if (!t.grid && t.is_quantized && t.encode)
    return ja ? "計算: ŵ = scale · 4 ビット浮動小数点の値（0、±0.5、±1、±1.5、±2、±3、±4、±6）。\n"
              : "Computes ŵ = scale · a 4-bit float, one of 0 ±0.5 ±1 ±1.5 ±2 ±3 ±4 ±6.\n";
  if (!t.grid) return "";
  const GridSpec& g = t.grid->spec;
  std::string text = ja ? "計算: ŵ = d" : "Computes ŵ = d";
  if (g.has_scales()) text += " · scale";
  text += " · level[code]";
  if (g.has_offset()) text += g.has_mins() ? " − dmin · min" : " − dmin";
  text += ja ? "。d はブロックごと" : "; d is stored with each block";
  if (g.has_offset()) text += ja ? "、dmin も" : ", dmin as well";
  if (g.n_sub > 1)
    text += fmt::format(fmt::runtime(ja ? "。{1} 個ずつ {0} 組に分け、組ごとに scale{2}" : "; its {} sub-blocks of {} weights have a scale{} each"), g.n_sub,
                        g.sub_len, g.has_mins() ? (ja ? " と min" : " and a min") : "");
  text += ja ? "。" : ". ";
  text += fmt::format(fmt::runtime(ja ? "code は {} 通り、level:{}。" : "A code is one of {}, the levels:{}."), g.n_levels, levels_text(g));
  if (g.has_scales())
    text += fmt::format(fmt::runtime(ja ? "scale は {} … {} の整数。" : " Scales are integers {} … {}."), g.scale_low, g.scale_high);
  return text + "\n";
}

std::string explain_type(const TypeInfo& t, const ExampleRow& row, Language language) {
  const bool ja = language == Language::kJapanese;
  std::string text = describe_type(t, language);
  return other_use(t, ja).empty() ? text + worked_example(t, row, ja) : text;
}

std::string explain_method(const RoundingMethod& m, bool ja) {
  const auto list = method_words();
  const auto words = std::find_if(list.begin(), list.end(), [&](const MethodWords& w) { return w.name == m.name; });
  if (words == list.end()) return fmt::format("{}: {}\n", m.name, m.summary);
  std::string text = fmt::format("{}: {}\n\n", m.name, ja ? words->japanese_summary : m.summary);
  text += fmt::format("{}{}\n{}{}\n{}{}\n", ja ? "必要なもの: " : "Needs: ", ja ? words->japanese_needs : m.needs,
                      ja ? "作れるもの: " : "Makes: ", ja ? words->japanese_formats : m.formats, ja ? "出典: " : "Source: ", m.source);
  return text + fmt::format("{}{}\n", ja ? "使いどき: " : "When to take it: ", ja ? words->japanese : words->english);
}

}  // namespace

ExampleRow example_row(const Model& model, const std::string& tensor, uint64_t row) {
  const ModelTensor* found = tensor.empty() ? nullptr : model.find(tensor);
  if (!tensor.empty() && !found) {
    std::vector<std::string> names;
    for (const ModelTensor& t : model.tensors()) names.push_back(t.name());
    const std::string nearest = nearest_name(tensor.substr(0, 128), names.data(), names.size());
    fail(ExitCode::kUsage, "{} has no tensor '{}'{}", model.path(), tensor.substr(0, 128),
         nearest.empty() ? "" : ": did you mean '" + nearest + "'?");
  }
  for (const ModelTensor& t : model.tensors())
    if (!found && t.spec().layer >= 0 && t.spec().shape.size() == 2) found = &t;
  if (!found) fail(ExitCode::kUsage, "{} has no matrix to show", model.path());
  if (row >= found->n_rows())
    fail(ExitCode::kUsage, "{} has {} rows: there is no row {}", found->name(), found->n_rows(), row);
  ExampleRow example;
  example.source = fmt::format("{}, row {} of {}", found->name(), row, model.path());
  example.values.resize(found->n_cols());
  found->read_rows(row, 1, example.values.data());
  return example;
}

ExampleRow built_in_row() {
  static constexpr float kValues[] = {
#include "report/example_row.inc"
  };
  return {"blk.0.attn_q.weight, row 0 of grain-7m", {std::begin(kValues), std::end(kValues)}};
}

std::vector<float> stored_as(std::span<const float> values, const TypeInfo& type) {
  std::vector<std::byte> blocks(tensor_bytes(type, 1, values.size()));
  std::vector<float> stored(values.size());
  type.encode(values.data(), nullptr, blocks.data(), values.size());
  type.decode(blocks.data(), stored.data(), stored.size());
  return stored;
}

double relative_error(std::span<const float> values, std::span<const float> stored) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    error += std::pow(static_cast<double>(stored[i]) - static_cast<double>(values[i]), 2);
    norm += std::pow(static_cast<double>(values[i]), 2);
  }
  return norm > 0 ? std::sqrt(error / norm) : 0;
}

std::string describe_type(const TypeInfo& t, Language language) {
  const bool ja = language == Language::kJapanese;
  const double bits = t.bits_per_weight();
  std::string text = fmt::format("{}: {}\n\n", t.name, ja ? japanese_of_type(t.name) : t.summary);
  if (t.block_len == 1)
    text += fmt::format(fmt::runtime(ja ? "保存: 重みひとつに {} バイト（{:g} ビット）。80 億個の重みなら {}。\n"
                                        : "Stores each weight by itself in {} bytes ({:g} bits); 8 billion weights take {}.\n"),
                        t.block_bytes, bits, format_size(static_cast<uint64_t>(kExampleWeights * bits / 8)));
  else
    text += fmt::format(
        fmt::runtime(ja ? "保存: {} 個の重みをまとめて {} バイト、重みあたり {:.4g} ビット。80 億個の重みなら {}。\n"
                        : "Stores {} weights together (a block) in {} bytes: {:.4g} bits per weight; 8 billion weights take {}.\n"),
        t.block_len, t.block_bytes, bits, format_size(static_cast<uint64_t>(kExampleWeights * bits / 8)));
  text += computation(t, ja);
  if (t.max_relative_error > 0 && t.max_relative_error < 1)
    text += fmt::format(fmt::runtime(ja ? "誤差: ひとつの重みの誤差は、最悪でもブロックの最大値の {:.3g} 倍。\n"
                                        : "Error: at worst a weight moves by {:.3g} times the largest of its block; most move far less.\n"),
                        t.max_relative_error);
  else if (t.max_relative_error >= 1)
    text += ja ? "誤差: ひとつの重みは、ブロックの最大値ほどずれることもあります。平均は実例のとおりです。\n"
               : "Error: single weights may move by as much as the largest of their block; the example shows the average.\n";
  if (!t.fallback.empty())
    text += fmt::format(fmt::runtime(ja ? "行の長さが {} の倍数でなければ {} を使います。\n"
                                        : "Rows whose length is no multiple of {} become {} instead.\n"),
                        t.block_len, t.fallback);
  const std::string_view other = other_use(t, ja);
  if (!other.empty()) return text + std::string(other) + "\n";
  const auto list = advice_by_bits();
  const auto advice = std::find_if(list.begin(), list.end(), [&](const Advice& a) { return bits >= a.from_bits; });
  return text + fmt::format("{}{}\n", ja ? "使いどき: " : "When to take it: ", ja ? advice->japanese : advice->english);
}

std::string explain_overview(Language language) {
  const bool ja = language == Language::kJapanese;
  std::string text =
      ja ? "言語モデルは大きな行列の集まりです。量子化は、行列の数をより少ないビットで保存します。いくつかの重みをまと"
           "めて（ブロック）、共通のスケールと小さな整数（コード）だけを残します。ファイルは小さく、生成は速くなり、数"
           "は少しずつ変わります。"
           "変わった結果がどれほど元のままかを、tsubu certify が測ります。\n\ntsubu explain 名前 [MODEL] "
           "で、それぞれを実際の数とともに説明します。\n"
         : "A language model is a set of large matrices. To quantize it is to store their numbers in fewer bits: a few "
           "weights together (a block) share a scale, "
           "and of each only a small integer (a code) is kept. The file gets smaller, writing gets faster, and each "
           "number moves a little. How much of the model is left is what tsubu certify measures.\n\n"
           "tsubu explain NAME [MODEL] explains one thing, on real numbers.\n";
  text += ja ? "\n形式:" : "\nTypes:";
  for (const TypeInfo& t : types()) text += fmt::format(" {}", t.name);
  text += ja ? "\n方法:" : "\nMethods:";
  for (const RoundingMethod& m : rounding_methods()) text += fmt::format(" {}", m.name);
  text += ja ? "\n尺度:" : "\nMetrics:";
  for (const MetricWords& m : metric_words()) text += fmt::format(" {}", m.name);
  text += ja ? "\n用語:" : "\nWords:";
  for (const MetricWords& m : term_words()) text += fmt::format(" {}", m.name);
  text += ja ? "\n基準:" : "\nLimits:";
  for (const MetricWords& m : gate_words()) text += fmt::format(" {}", m.name);
  return text + "\n";
}

std::string explain(std::string_view name, const ExampleRow& row, Language language) {
  const bool ja = language == Language::kJapanese;
  if (const TypeInfo* type = find_type(name)) return explain_type(*type, row, language);
  std::vector<std::string> names;
  std::string text;  // "power" is a method and a measure
  for (const RoundingMethod& m : rounding_methods()) {
    if (same_name(m.name, name)) text += explain_method(m, ja);
    names.emplace_back(m.name);
  }
  for (const auto& list : {metric_words(), term_words(), gate_words()})
    for (const MetricWords& m : list) {
      if (same_name(m.name, name)) text += fmt::format("{}{}: {}\n", text.empty() ? "" : "\n", m.name, ja ? m.japanese : m.english);
      names.emplace_back(m.name);
    }
  if (!text.empty()) return text;
  for (const TypeInfo& t : types()) names.emplace_back(t.name);
  const std::string nearest = nearest_name(name.substr(0, 64), names.data(), names.size());
  fail(ExitCode::kUsage, "nothing is called '{}'{} (tsubu explain lists what there is)", name.substr(0, 64),
       nearest.empty() ? "" : ": did you mean '" + nearest + "'?");
}

}  // namespace tsubu
