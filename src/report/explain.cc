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

constexpr MetricWords kMetrics[] = {
    {"kld",
     "Divergence, KL(base ‖ candidate), in nats. At each token both models give every word of the vocabulary a "
     "probability; the divergence is the "
     "mean of ln(p_base / p_candidate), weighted by p_base. 0: the same predictions. 0.01: hard to notice; 0.1: "
     "visible in long texts; 1: another model. It needs no "
     "right answers and notices every change, good or bad: a bound on how far the candidate is from the base, not a "
     "measure of which is better.",
     "ダイバージェンス KL(元 ‖ 候補)、単位は nat。各トークンで両モデルは語彙のすべての語に確率を与えます。ln(p_元 / "
     "p_候補) を p_元 で重み付けした平均です。0 なら予測は同じ、0.01 はほぼ気づかず、0.1 は長い文章で見え始め、1 "
     "は別のモデルです。"
     "正解を必要とせず、良い変化も悪い変化も数えます。「元からの距離の上限」であって、どちらが優れているかの尺度ではあ"
     "りません。"},
    {"top1",
     "Share of tokens at which both models find the same token likeliest. What greedy text is made of; a tie between "
     "two near-equal tokens counts as a change.",
     "両モデルの最有力トークンが一致した割合です。貪欲に生成した文章はこれで決まります。ほぼ同じ確率の二語が入れ替わっ"
     "ても不一致と数えます。"},
    {"perplexity",
     "e to the mean surprise per token: how many equally likely words the model hesitates between. The candidate's "
     "over the base's says what was lost on average; gains on some "
     "tokens hide losses on others, so look at the divergence as well. Only numbers of the same text, tokenizer, "
     "context and protocol can be compared.",
     "トークンあたりの平均の「驚き」の指数で、モデルが何語の間で迷っているかを表します。元との比が平均の損失です。得と"
     "失が打ち消し合うため、ダイバージェンスも見てください。同じ文書・トークナイザ・文脈長・手順の値だけが比較できます"
     "。"},
    {"flips",
     "Questions whose answer turned from right to wrong (lost) or from wrong to right (gained). Equal accuracy can "
     "hide many flips: 5 % lost and 5 % gained leave the total as it was.",
     "正解が不正解に（失）、不正解が正解に（得）変わった問題です。5 % を失い 5 % "
     "を得れば正答率は変わりません。合計だけでは変化が隠れます。"},
    {"mcnemar",
     "Exact McNemar test: were lost and gained flips equally likely? Only changed answers tell. p is how often a split "
     "at least this uneven would come by chance.",
     "正確なマクネマー検定。失と得が同じ確率で起きたと言えるかを、変化した答えだけから調べます。p "
     "は、偶然だけでこれ以上に偏る確率です。"},
    {"holm",
     "Holm's correction: with many candidates and tasks some p comes out small by chance; the adjusted p keeps the "
     "chance of any false alarm at the level.",
     "ホルムの補正。候補や課題が多いと偶然小さな p が出ます。補正後の p "
     "は、誤警報がひとつでも出る確率を水準以下に保ちます。"},
    {"margin",
     "Non-inferiority: how much loss of right answers you are ready to accept, said before the run. The candidate "
     "passes when the test shows that the loss is below it. Few questions cannot show that "
     "a small margin is kept, however good the candidate.",
     "非劣性マージン。許せる正答率の低下を、試験の前に決めます。低下がそれより小さいと検定で示されたら合格です。問題が"
     "少なければ、良い候補でも小さなマージンは示せません。"},
    {"power",
     "The smallest change that a run of this many questions finds four times in five: (z₀.₉₇₅ + z₀.₈) √(share of flips "
     "/ questions). Smaller changes may be there unseen.",
     "その問題数で 5 回中 4 回見つけられる最小の変化: (z₀.₉₇₅ + z₀.₈) √(変化の割合 / "
     "問題数)。それより小さい変化は見えません。"},
    {"bootstrap",
     "Where the intervals come from: chunks of text are drawn again and again with replacement, and the middle 95 % of "
     "the results is shown. Whole chunks, because tokens of one chunk are not independent.",
     "区間の求め方。文書の区画を重複を許して何度も引き直し、結果の中央 95 % "
     "を示します。同じ区画のトークンは独立でないため、区画ごと引きます。"},
    {"rel_error",
     "Relative error of a matrix: √(Σ(ŵ − w)²) / √(Σw²). 0.05: its numbers moved by 5 % of their size. What counts in "
     "the end is what the model makes of it, so it points at where to look and does not judge.",
     "行列の相対誤差 √(Σ(ŵ − w)²) / √(Σw²)。0.05 は数がその大きさの 5 % "
     "だけ動いたことです。最後に大事なのは出力なので、「どこを見るか」を示すもので、判定そのものではありません。"},
    {"bits_per_weight",
     "All bytes stored for the weights, scales and tables included, times 8, over the number of weights. File size ≈ "
     "this × weights / 8.",
     "スケールや表を含め、重みのために保存される全バイト × 8 ÷ 重みの数。ファイルの大きさ ≈ これ × 重みの数 ÷ 8。"},
    {"leakage",
     "Share of the judged text's runs of 13 words that stand in the calibration text. A candidate looks better on text "
     "that it was fitted to; the gap between its divergence here and there shows by how much.",
     "判定用の文書の 13 "
     "語の並びのうち、較正用の文書にもある割合です。候補は合わせ込んだ文書では実力より良く見えます。両者でのダイバージ"
     "ェンスの差がその程度を示します。"},
    {"speed",
     "Tokens per second. Writing one token reads every weight once, so its limit is memory bandwidth / bytes of the "
     "weights: half the bytes, up to twice the speed. Reading a prompt does many tokens at once and is limited by "
     "arithmetic.",
     "毎秒トークン数。1 トークンを書くたびに全重みを一度読むため、限界は「メモリ帯域 ÷ "
     "重みのバイト数」です。バイトが半分なら速さは最大 2 "
     "倍。入力の処理は多くのトークンをまとめて行い、演算能力で決まります。"},
};

constexpr MethodWords kMethods[] = {
    {"nearest", "To compare with: what formats do without any care.", "比較の基準に。工夫のない丸めです。"},
    {"search", "Always, where there is no text: costs seconds, needs nothing, and importance makes it better.",
     "文書がないときの標準。数秒で済み、重要度があればさらに良くなります。"},
    {"hqq", "Without text, at 2 to 4 bits with large groups.", "文書なし、2〜4 ビットで大きな群のとき。"},
    {"power", "For studies of non-uniform levels in one scale for each row.",
     "行ごとにひとつのスケールで不均一な水準を調べるとき。"},
    {"gptq-plain", "To compare with the published method.", "公開された方法との比較に。"},
    {"gptq", "With calibration text: the errors of one weight are made up for by the next ones.",
     "較正用の文書があるとき。ひとつの重みの誤差を次の重みが埋め合わせます。"},
    {"refine", "After any of the others, with calibration text: slower, and never worse on the text that it sees.",
     "較正用の文書があるとき、他の方法のあとに。時間はかかりますが、見た文書では悪くなりません。"},
    {"kmeans", "For tables of levels, 2 to 4 bits.", "水準の表を使う形式（2〜4 ビット）に。"},
};

struct Advice {
  double from_bits;
  std::string_view english, japanese;
};
constexpr Advice kAdvice[] = {
    {15, "The form that models are published in; the reference.", "モデルが公開される形。基準になります。"},
    {7.5, "As good as the original for nearly every use; take it when memory is no concern.",
     "ほぼすべての用途で元と同じ。メモリに余裕があればこれを。"},
    {5.4, "Losses that are hard to measure.", "測るのも難しいほどの損失。"},
    {3.9, "The usual choice: a quarter of the size at a small loss.", "標準的な選択。大きさは四分の一、損失はわずか。"},
    {2.9, "When 4 bits do not fit: measure it on your own text first; calibration text is worth its time here.",
     "4 ビットが入らないとき。必ず自分の文書で測ること。較正用の文書が効きます。"},
    {0, "Only when nothing else fits, and with calibration text: a smaller model at more bits is often better.",
     "他に入るものがないときだけ、較正用の文書とともに。より小さいモデルを多いビットで使うほうが良いことも多い。"},
};

bool same_name(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) {
           return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
         });
}

std::string levels_text(const GridSpec& g) {
  std::string text;
  for (int i = 0; i < g.n_levels; ++i) {
    if (g.n_levels > 20 && i == 4) {
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
  std::vector<std::byte> blocks(tensor_bytes(type, 1, n));
  std::vector<float> back(n);
  type.encode(row.values.data(), nullptr, blocks.data(), n);
  type.decode(blocks.data(), back.data(), n);
  double error = 0, norm = 0;
  for (size_t i = 0; i < n; ++i) {
    error += std::pow(static_cast<double>(back[i]) - static_cast<double>(row.values[i]), 2);
    norm += std::pow(static_cast<double>(row.values[i]), 2);
  }
  std::string text = fmt::format(fmt::runtime(ja ? "\n実例: {}、最初のブロック（{} 個、{} バイト）\n"
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
                        type.grid ? fmt::format("{}", block.codes[i]) : "", back[i], back[i] - row.values[i]);
  if (type.grid) {
    const GridSpec& g = type.grid->spec;
    const double level = static_cast<double>(g.levels[block.codes[0]]), d = static_cast<double>(block.d.value());
    text += fmt::format("  ŵ[0] = {:g} · {} · {:g}", d, block.scale[0], level);
    if (g.has_offset()) text += fmt::format(" − {:g} · {}", static_cast<double>(block.dmin.value()), block.min[0]);
    text += fmt::format(" = {:.6f}\n", back[0]);
  }
  text += fmt::format(fmt::runtime(ja ? "  行全体 {} 個の相対誤差: {:.3g} %\n"
                                      : "  relative error over {} weights of the row: {:.3g} %\n"),
                      n, norm > 0 ? 100 * std::sqrt(error / norm) : 0.0);
  if (error == 0 && norm > 0)
    text += ja ? "  この行はすでにこの形式で表せる値なので、何も失われません。元のモデルを渡すと誤差が見えます。\n"
               : "  The row holds values of this type already, so nothing is lost: give the original model to see what it costs.\n";
  return text;
}

std::string explain_type(const TypeInfo& t, const ExampleRow& row, bool ja) {
  const double bits = t.bits_per_weight();
  const auto advice =
      std::find_if(std::begin(kAdvice), std::end(kAdvice), [&](const Advice& a) { return bits >= a.from_bits; });
  std::string text = fmt::format("{}: {}\n\n", t.name, t.summary);
  text += fmt::format(
      fmt::runtime(ja ? "保存: {} 個の重みをまとめて {} バイト、重みあたり {:.4g} ビット。80 億個の重みなら {}。\n"
                      : "Stores {} weights together in {} bytes: {:.4g} bits per weight; 8 billion weights take {}.\n"),
      t.block_len, t.block_bytes, bits, format_size(static_cast<uint64_t>(kExampleWeights * bits / 8)));
  if (t.grid) {
    const GridSpec& g = t.grid->spec;
    text += ja ? "計算: ŵ = d · scale · level[code]" : "Computes ŵ = d · scale · level[code]";
    if (g.has_offset()) text += " − dmin · min";
    text += fmt::format(fmt::runtime(ja ? "。{} 個ずつ {} 組。" : "; {} sub-blocks of {} weights. "),
                        ja ? g.sub_len : g.n_sub, ja ? g.n_sub : g.sub_len);
    text += fmt::format(fmt::runtime(ja ? "code は {} 通り、level:{}。" : "A code is one of {}, the levels:{}. "),
                        g.n_levels, levels_text(g));
    if (g.has_scales())
      text += fmt::format(fmt::runtime(ja ? "scale は {} … {} の整数。" : "Scales are integers {} … {}. "), g.scale_low,
                          g.scale_high);
    text += "\n";
  } else if (t.lattice) {
    text += ja ? "計算: いくつかの重みをまとめて格子の点に置き換え、スケールを掛けます。\n"
               : "Computes: a few weights together become a point of a grid, times a scale.\n";
  }
  if (t.max_relative_error > 0)
    text +=
        fmt::format(fmt::runtime(ja ? "誤差: ひとつの重みの誤差はブロックの最大値の {:.3g} 倍以下。\n"
                                    : "Error: no weight moves by more than {:.3g} times the largest of its block.\n"),
                    t.max_relative_error);
  if (!t.fallback.empty())
    text += fmt::format(fmt::runtime(ja ? "行の長さが {} の倍数でなければ {} を使います。\n"
                                        : "Rows that are no multiple of {} become {}.\n"),
                        t.block_len, t.fallback);
  text += fmt::format("{}{}\n", ja ? "使いどき: " : "When to take it: ", ja ? advice->japanese : advice->english);
  return text + worked_example(t, row, ja);
}

std::string explain_method(const RoundingMethod& m, bool ja) {
  const auto words =
      std::find_if(std::begin(kMethods), std::end(kMethods), [&](const MethodWords& w) { return w.name == m.name; });
  std::string text = fmt::format("{}: {}\n\n", m.name, m.summary);
  text += fmt::format("{}{}\n{}{}\n{}{}\n", ja ? "必要なもの: " : "Needs: ", m.needs,
                      ja ? "作れるもの: " : "Makes: ", m.formats, ja ? "出典: " : "Source: ", m.source);
  if (words != std::end(kMethods))
    text += fmt::format("{}{}\n", ja ? "使いどき: " : "When to take it: ", ja ? words->japanese : words->english);
  return text;
}

}  // namespace

std::span<const MetricWords> metric_words() { return kMetrics; }
std::span<const MethodWords> method_words() { return kMethods; }

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
  for (const MetricWords& m : kMetrics) text += fmt::format(" {}", m.name);
  return text + "\n";
}

std::string explain(std::string_view name, const ExampleRow& row, Language language) {
  const bool ja = language == Language::kJapanese;
  if (const TypeInfo* type = find_type(name)) return explain_type(*type, row, ja);
  std::vector<std::string> names;
  for (const RoundingMethod& m : rounding_methods()) {
    if (same_name(m.name, name)) return explain_method(m, ja);
    names.emplace_back(m.name);
  }
  for (const MetricWords& m : kMetrics) {
    if (same_name(m.name, name)) return fmt::format("{}: {}\n", m.name, ja ? m.japanese : m.english);
    names.emplace_back(m.name);
  }
  for (const TypeInfo& t : types()) names.emplace_back(t.name);
  const std::string nearest = nearest_name(name.substr(0, 64), names.data(), names.size());
  fail(ExitCode::kUsage, "nothing is called '{}'{} (tsubu explain lists what there is)", name.substr(0, 64),
       nearest.empty() ? "" : ": did you mean '" + nearest + "'?");
}

}  // namespace tsubu
