#include "page/words.h"

#include <algorithm>

#include "base/error.h"
#include "base/remark.h"
#include "page/html.h"

namespace tsubu {
namespace {

constexpr Phrase kPhrases[] = {
    {"title", "Is the smaller model still the model?", "小さくしたモデルは元のモデルのままか"},
    {"pass", "passes", "合格"},
    {"fail", "fails", "不合格"},
    {"verdict.pass", "Every candidate keeps to every limit.", "すべての候補がすべての基準を満たしました。"},
    {"verdict.fail", "At least one limit is broken.", "満たされない基準があります。"},
    {"gates", "Limits and verdict", "基準と判定"},
    {"gates.lead",
     "Each measured value against its limit. Where a value has a 95 % interval, its unfavorable end is compared: a "
     "pass is shown, not merely not refuted.",
     "測定値と基準値の比較です。95 % "
     "区間がある値では不利な側の端を比べます。合格とは「満たすことが示された」という意味です。"},
    {"gate", "limit", "基準"},
    {"candidate", "candidate", "候補"},
    {"base", "base", "元のモデル"},
    {"value", "value", "値"},
    {"bound", "95 % bound", "95 % 区間の端"},
    {"bar", "limit", "基準値"},
    {"p_break", "probability that it is broken", "基準を破る確率"},
    {"models", "What was done to the model", "モデルに何をしたか"},
    {"models.lead",
     "A model is a list of matrices of numbers. Storing each number in fewer bits makes the file smaller and faster to "
     "read, and changes each number a little. Bits per weight count everything stored for the weights.",
     "モデルは数の行列の集まりです。ひとつの数をより少ないビットで保存するとファイルは小さく、読み出しは速くなりますが"
     "、数は少しずつ変わります。「重みあたりビット数」は重みのために保存されるすべてを数えたものです。"},
    {"model", "model", "モデル"},
    {"type", "main type", "主な形式"},
    {"size", "size of the weights", "重みの大きさ"},
    {"bits", "bits per weight", "重みあたりビット数"},
    {"share", "of the base", "元に対する比"},
    {"types", "types, share of the weights", "形式と重みの割合"},
    {"made.how", "how, as its file says", "作り方（ファイルの記録）"},
    {"explained", "Words:", "用語："},
    {"gates.words", "Limits", "基準"},
    {"hash", "hash", "ハッシュ"},
    {"pareto", "Size and quality", "大きさと品質"},
    {"pareto.lead",
     "Down and left is better. The line joins the candidates that none beats in size and closeness at once.",
     "左下ほど良い結果です。線は、より小さくかつより元に近い候補が他にないものを結んでいます。"},
    {"pareto.front", "none is both smaller and closer", "より小さくかつ近いものがない候補"},
    {"kld", "mean divergence from the base, nats", "元からの平均ダイバージェンス（nat）"},
    {"kld.short", "mean divergence", "平均ダイバージェンス"},
    {"divergence", "How far the predictions moved", "予測がどれだけ動いたか"},
    {"divergence.lead",
     "At each token both models give every word of the vocabulary a probability. The divergence (KL) says how far the "
     "candidate's probabilities are from the base's: 0 is the same. The curve shows how many tokens have which "
     "divergence; the ladder below shows the rare bad ones.",
     "各トークンで、両モデルは語彙のすべての語に確率を与えます。ダイバージェンス（KL）は候補の確率が元からどれだけ離れ"
     "たかを表し、0 なら同じです。曲線はどの大きさのトークンがどれだけあるかを、下の表はまれな悪い例まで示します。"},
    {"tokens.share", "share of tokens", "トークンの割合"},
    {"token.kld", "divergence of a token, nats", "トークンのダイバージェンス（nat）"},
    {"mean", "mean", "平均"},
    {"median", "median", "中央値"},
    {"max", "largest", "最大"},
    {"top1", "same likeliest token", "最有力トークンの一致"},
    {"ppl", "perplexity over the base's", "パープレキシティの比"},
    {"floor",
     "Noise floor: the base against itself, computed again another way: {}. With activations and cache rounded as "
     "llama.cpp's CPU path does for its types: {}. Differences below the second cannot be seen in such a runtime.",
     "ノイズの下限: 元のモデルを別の分割で再計算した自分自身との差は {}。llama.cpp の CPU "
     "実行と同じように活性値とキャッシュを丸めると {}。後者より小さい差はそのような実行環境では見えません。"},
    {"texts", "By text", "文書ごと"},
    {"text", "text", "文書"},
    {"layers", "Where the weights differ", "重みはどこで違うか"},
    {"layers.lead",
     "The relative error of each matrix: 0.05 means that its numbers moved by 5 % of their size. Marked cells are not "
     "what rounding to their type makes.",
     "行列ごとの相対誤差です。0.05 は、数がその大きさの 5 % "
     "だけ動いたことを意味します。印のあるセルは、その形式への丸めでは説明できません。"},
    {"layer", "layer", "層"},
    {"finding", "finding", "所見"},
    {"tensor", "tensor", "テンソル"},
    {"error", "relative error", "相対誤差"},
    {"error.how", "‖stored − original‖ / ‖original‖ over all numbers of the matrix", "行列のすべての数についての ‖保存値 − 元の値‖ / ‖元の値‖"},
    {"expected", "plain rounding", "単純な丸め"},
    {"tasks", "Questions", "問題への解答"},
    {"tasks.lead",
     "Base and candidate answer the same questions. Lost: right before, wrong now; gained: the other way. Equal totals "
     "can hide many changes.",
     "元と候補が同じ問題に答えます。「失」は正解から不正解へ、「得」はその逆です。合計が同じでも多くの変化が隠れている"
     "ことがあります。"},
    {"task", "task", "課題"},
    {"right.base", "base right", "元の正答率"},
    {"right.candidate", "candidate right", "候補の正答率"},
    {"difference", "difference, points [95 %]", "差（ポイント）[95 %]"},
    {"difference.axis", "change of the share of right answers, points", "正答率の変化（ポイント）"},
    {"lost", "lost", "失"},
    {"gained", "gained", "得"},
    {"p", "p (McNemar)", "p（マクネマー）"},
    {"holm", "p, Holm", "p（ホルム補正）"},
    {"power", "What this run could find", "この試験で見つけられる差"},
    {"generation", "Text written by both", "両者の書いた文章"},
    {"generation.lead",
     "Both models continue the same prompts, always with the likeliest token. One different token changes what "
     "follows, so an early difference is not an error by itself; repetition and no end are.",
     "両モデルが同じ書き出しを、つねに最有力のトークンで続けます。ひとつ違えばその先も変わるため、早い分岐だけでは誤り"
     "とは言えません。繰り返しや終わらないことは問題です。"},
    {"same", "same text", "同じ文章"},
    {"first_difference", "first difference (tokens)", "最初の違い（トークン）"},
    {"length_ratio", "length over the base's", "長さの比"},
    {"repetition", "repetition", "繰り返し"},
    {"unended", "no end", "終わらない"},
    {"prompt", "prompt", "書き出し"},
    {"worst", "Where the candidate moved most", "最も動いたところ"},
    {"after", "after", "直前"},
    {"actual", "text has", "本文"},
    {"base.says", "base says", "元の予測"},
    {"candidate.says", "candidate says", "候補の予測"},
    {"speed", "Speed and memory", "速さとメモリ"},
    {"speed.lead",
     "Measured on the machine of the run, one request at a time. The mark is the measured limit of the machine: how "
     "fast its memory can deliver the weights.",
     "実行した機械で、一度に一件の要求で測りました。縦線は機械の実測限界（メモリが重みを届けられる速さ）です。"},
    {"prefill", "reading the prompt", "入力の処理"},
    {"decode", "writing", "生成"},
    {"rate", "tokens per second", "毎秒トークン数"},
    {"memory", "peak memory", "最大メモリ"},
    {"load", "loading", "読み込み"},
    {"energy", "energy per token written", "1 トークンあたりのエネルギー"},
    {"cost", "What it costs", "費用"},
    {"cost.lead",
     "From your prices and the measured speed of writing, one request at a time; a server that works on many requests "
     "at once costs less for each.",
     "入力された価格と、一件ずつ生成したときの実測の速さから計算しています。多くの要求を同時に処理するサーバーでは一件"
     "あたりの費用は下がります。"},
    {"cost.how", "price of the machine ÷ measured speed of writing, plus measured energy", "機械の価格 ÷ 実測の生成速度、加えて実測のエネルギー"},
    {"cost.million", "per million tokens", "100 万トークンあたり"},
    {"cost.month", "per month", "月あたり"},
    {"cost.machines", "machines", "台数"},
    {"cost.saving", "saved per month", "月の節約"},
    {"cost.even", "break-even (tokens)", "損益分岐（トークン）"},
    {"cost.risk", "probability that a quality limit is broken", "品質基準を破る確率"},
    {"how", "How it was measured", "測り方"},
    {"leakage", "Share of the text that stands in calibration text", "較正用の文書と重なる割合"},
    {"lens", "Why it breaks: noise in weights and activations", "なぜ壊れるか：重みと活性化への摂動"},
    {"lens.lead",
     "Noise of one relative size and several shapes goes into the model, and the divergence from the undisturbed model is "
     "measured on the same tokens. Steeper or higher is worse. The map puts noise into one tensor at a time.",
     "大きさを揃えた形の異なる摂動をモデルに加え、同じトークンで元のモデルからのダイバージェンスを測ります。高いほど害が"
     "大きいことを示します。地図は一度に一つのテンソルだけを乱したものです。"},
    {"lens.weights", "Noise in the weights", "重みへの摂動"},
    {"lens.activations", "Noise in the activations", "活性化への摂動"},
    {"lens.map", "Sensitivity: divergence per squared relative noise, layers × kinds of matrices", "感度：摂動の二乗あたりのダイバージェンス（層 × 行列の種類）"},
    {"lens.alpha", "sensitivity", "感度"},
    {"lens.codecs", "Formats as noise", "形式を摂動として見る"},
    {"lens.codec", "format", "形式"},
    {"lens.codecs.dots", "formats", "形式"},
    {"lens.range.how", "; mean over the seeds [smallest, largest]", "；種にわたる平均 [最小, 最大]"},
    {"lens.map.how", "; divergence ÷ r² under Gaussian noise of norm r in this tensor alone", "；このテンソルだけにノルム r のガウス雑音を加えたときのダイバージェンス ÷ r²"},
    {"lens.equal", "Gaussian noise of equal harm", "同じ害のガウス雑音"},
    {"lens.efficiency", "efficiency", "効率"},
    {"lens.kind", "kind", "種類"},
    {"lens.r", "relative norm r", "相対ノルム r"},
    {"lens.seeds", "seeds", "種の数"},
    {"lens.range", "smallest – largest", "最小 – 最大"},
    {"tune", "Training in the types of the file", "ファイルの型での学習"},
    {"tune.lead",
     "The weights were trained for their rounding. The loss on text that was held out tells what was learned; where it stays above "
     "that of the text trained on, that text was learned by heart. The best point was written.",
     "丸めに合わせて重みを学習しました。学習に使わなかった文書での損失が実力を示し、学習した文書の損失より高いままなら"
     "暗記しています。最も良い点を書き出しました。"},
    {"tune.held", "divergence on held-out text", "学習外の文書でのダイバージェンス"},
    {"tune.trained", "loss on the text trained on", "学習した文書での損失"},
    {"tune.text", "cross entropy of the held-out text", "学習外の文書の交差エントロピー"},
    {"tune.loss", "nats per token", "1 トークンあたりの nat"},
    {"tune.step", "step", "ステップ"},
    {"tune.tokens", "tokens", "トークン"},
    {"tune.written", "written", "書き出した点"},
    {"tune.judged", "held-out tokens", "学習外のトークン"},
    {"numbers", "Numbers", "数値"},
    {"stability", "Verdict under other seeds of the bootstrap", "ブートストラップの種を変えたときの判定"},
    {"stability.template", "Verdict with the questions as “{}”", "質問を「{}」と言い換えたときの判定"},
    {"stability.threads",
     "Verdict with {} instead of {} threads ({} chunks, {} questions and {} prompts computed again; {} of {} numbers differ)",
     "スレッド数を {} と {} で変えたときの判定（{} チャンク、{} 問、{} プロンプトを再計算、{} / {} の数値が異なる）"},
    {"stable", "the same", "同じ"},
    {"unstable", "changes", "変わる"},
    {"quantize", "How the file was made", "ファイルの作り方"},
    {"method", "method", "方法"},
    {"json", "All numbers of this page as JSON", "このページのすべての数値（JSON）"},
    {"explain", "What the words mean", "用語の説明"},
    {"explain.lead",
     "The types that these models are stored in, on a row of real weights, and the measures of this page. `tsubu explain NAME MODEL` shows the same on "
     "your own model.",
     "ここに出てくる形式を実際の重みの一行で示し、このページの尺度を説明します。`tsubu explain 名前 モデル` で手元のモデルでも見られます。"},
    {"explain.before", "weight", "元の重み"},
    {"explain.after", "as stored", "保存された値"},
    {"explain.row", "The first {0} weights of {1}. Relative error of the whole row: {2} %.", "{1} の最初の {0} 個の重み。行全体の相対誤差は {2} %。"},
    {"explain.measures", "Measures", "尺度"},
    {"explain.terms", "Words", "用語"},
    {"tokens", "tokens", "トークン"},
    {"chunks", "chunks, questions", "区画、問題"},
    {"speed.how", "tsubu bench, {} threads, {}, activations {}", "tsubu bench、{} スレッド、{}、活性値 {}"},
    {"lens.note", "{}: {} × {} tokens, {} scored, {} of {} cells", "{}: {} × {} トークン、採点 {}、セル {} / {}"},
    {"chart.zoom", "zoom into an area", "範囲を拡大"},
    {"chart.back", "zoom back", "拡大を戻す"},
    {"chart.interval", "smallest … largest", "最小 … 最大"},
    {"chart.protocol", "How it was measured", "測り方"},
    {"chart.margin", "margin", "許容差"},
    {"chart.machine", "limit of the machine", "機械の限界"},
    {"chart.keys", "The arrow keys walk through the values; the same numbers stand in the tables.",
     "矢印キーで値をたどれます。同じ数値は表にもあります。"},
    {"chart.equality", "equal", "一致"},
    {"chart.nothing", "{}: nothing was measured.", "{}: 測定されていません。"},
    // The lens' page (lens/study_page.cc).
    {"study.title", "Perturbation study of {}", "{} の摂動の研究"},
    {"study.heading", "{} through the lens of perturbation", "{}：摂動というレンズで見る"},
    {"study.note",
     "{0} windows of {1} tokens, the second half of each scored ({2} tokens), f32; perplexity of the unchanged model {3}. Divergence: mean KL(unchanged ‖ changed). "
     "{4} of {5} cells measured, {6} in this run.",
     "{1} トークンの窓 {0} 個、それぞれ後半を採点（{2} トークン）、f32。変えないモデルのパープレキシティは {3}。ダイバージェンスは KL(元 ‖ 変えたもの) の平均。"
     "{5} セルのうち {4} を測定、この実行は {6}。"},
    {"study.protocol", "{0} windows of {1} tokens, the second half of each scored ({2} tokens), f32; KL(unchanged ‖ changed); [ ]: range over seeds",
     "{1} トークンの窓 {0} 個、それぞれ後半を採点（{2} トークン）、f32；KL(元 ‖ 変えたもの)；[ ]：種にわたる範囲"},
    {"study.findings", "Findings", "わかったこと"},
    {"study.figures", "Figures", "図"},
    {"study.activations", "Noise in the activations (inputs of linears, each token)", "活性化への摂動（線形層の入力、トークンごと）"},
    {"study.r", "relative L2 norm r of the noise", "雑音の相対 L2 ノルム r"},
    {"study.kld", "KL divergence, nats", "KL ダイバージェンス（nat）"},
    {"study.gaussian.both", "gaussian in both", "両方に gaussian"},
    {"study.codecs.dots", "formats", "形式"},
    {"study.weights.name", "weights", "重み"},
    {"study.activations.name", "activations", "活性値"},
    {"study.both.name", "both", "両方"},
    {"study.weights.how",
     "Every kind has the same norm. Bands: range over seeds. Dots: real formats (plain search) at their own error; a dot under the lines harms less than noise of its size.",
     "どの種類も同じノルムです。帯は種にわたる範囲、点は実際の形式（単純な探索）をその誤差の位置に置いたものです。線より下の点は、同じ大きさの雑音より害が少ないことを示します。"},
    {"study.activations.how", "Every token's input of every chosen linear is changed by noise of r times its norm.",
     "選んだ線形層の入力を、トークンごとに、そのノルムの r 倍の雑音で変えます。"},
    {"study.kinds", "The kinds of noise against Gaussian noise", "雑音の種類とガウス雑音の比較"},
    {"study.kinds.y", "divergence over that of Gaussian noise", "ガウス雑音に対するダイバージェンスの比"},
    {"study.kinds.how", "Above one: worse than noise of the same norm that does not know the values. Bands: range over seeds.",
     "1 より上は、値を見ない同じノルムの雑音より悪いことを示します。帯は種にわたる範囲です。"},
    {"study.ppl", "Perplexity under Gaussian noise", "ガウス雑音でのパープレキシティ"},
    {"study.ppl.y", "Δ ln perplexity", "Δ ln パープレキシティ"},
    {"study.ppl.how", "The same cells as above, by their perplexity on the text.", "上と同じセルを、文書のパープレキシティで見たものです。"},
    {"study.top1", "Most likely token under Gaussian noise", "ガウス雑音での最有力トークン"},
    {"study.top1.y", "share of tokens that keep it", "変わらないトークンの割合"},
    {"study.top1.how", "The same cells as above, by top-1 agreement.", "上と同じセルを、最有力トークンの一致で見たものです。"},
    {"study.gamma", "Noise in proportion to |x|^γ, at r = 1/16", "|x|^γ に比例する雑音（r = 1/16）"},
    {"study.gamma.how", "Low is benign. Dashed: where the errors of real formats stand, by the slope of their error over the size of the weight.",
     "低いほど無害です。破線は、実際の形式の誤差の位置（重みの大きさに対する誤差の傾き）です。"},
    {"study.gamma.roles", "The same by role, at r = 1/8", "役割ごと（r = 1/8）"},
    {"study.gamma.roles.how", "Noise in the weights of one role in all layers.", "全層で一つの役割の重みだけに雑音を加えます。"},
    {"study.slope", "Error of the formats over the size of the weight", "重みの大きさと形式の誤差"},
    {"study.slope.x", "|x| over the tensor's root mean square", "|x| とテンソルの二乗平均平方根の比"},
    {"study.slope.y", "root mean square error, relative to the whole", "二乗平均平方根誤差（全体に対する比）"},
    {"study.slope.how", "Flat: the error does not know the value (slope 0). A uniform grid is flat within a block and rises a little from block to block.",
     "平らなら、誤差は値によりません（傾き 0）。均一な格子はブロック内では平らで、ブロックからブロックへ少し上がります。"},
    {"study.slope.protocol", "plain search, weights of the chosen linears, binned by size", "単純な探索、選んだ線形層の重みを大きさで分類"},
    {"study.slope.name", "slope", "傾き"},
    {"study.slope.error", "error slope", "誤差の傾き"},
    {"study.clip", "Clipping the largest magnitudes", "大きい値の切り詰め"},
    {"study.clip.x", "share of the values clipped", "切り詰めた値の割合"},
    {"study.clip.how", "Weights: of each tensor. Activations: of each token.", "重みはテンソルごと、活性値はトークンごとです。"},
    {"study.map", "Sensitivity: divergence per squared relative noise", "感度：相対雑音の二乗あたりのダイバージェンス"},
    {"study.map.how", "Noise in one tensor at a time. Shades are logarithmic.", "一度に一つのテンソルへの雑音です。濃さは対数です。"},
    {"study.outside", "outside", "層の外"},
    {"study.layer", "layer {}", "層 {}"},
    {"study.codec", "format", "形式"},
    {"study.codecs", "Formats as perturbations", "摂動としての形式"},
    {"study.codecs.how",
     "Plain search without statistics. Equivalent noise: the Gaussian r of the same divergence. Efficiency: equivalent over own r; under 1, the format harms less than noise of its "
     "size.",
     "統計を使わない単純な探索です。等価雑音は同じダイバージェンスになるガウス雑音の r、効率はそれを自身の r で割ったもので、1 より小さければ同じ大きさの雑音より害が少ないことを示します。"},
    {"study.equal", "equivalent r", "等価な r"},
    {"study.float", "float", "浮動小数点"},
    {"study.numerics", "Number formats (linears of the blocks)", "数の形式（ブロック内の線形層）"},
    {"study.roles", "Gaussian noise of r = 1/16 in the inputs of one role", "一つの役割の入力への r = 1/16 のガウス雑音"},
    {"study.role", "role", "役割"},
    {"study.outliers", "Outlier channels of the inputs", "入力の外れ値チャネル"},
    {"study.outliers.of", "input of", "入力先"},
    {"study.channel", "channel", "チャネル"},
    {"study.outliers.peak", "largest over root mean square", "最大値と二乗平均平方根の比"},
    {"study.outliers.share", "share of the energy", "エネルギーの割合"},
    {"gradients", "Sensitivities by gradients", "勾配による感度"},
    {"gradients.none", "Nothing was measured.", "測定されていません。"},
    {"gradients.protocol", "learned from {0} windows of {1} tokens, costs measured on {2} windows; second half of each scored, f32",
     "{1} トークンの窓 {0} 個から求め、害は窓 {2} 個で測定；それぞれ後半を採点、f32"},
    {"gradients.note", "{}. Noise probes took {}, the backward passes {} (and {} for the text's own gradient), measuring single tensors {}.",
     "{}。雑音による測定は {}、逆伝播は {}（本文の勾配にさらに {}）、テンソルを一つずつ測るのに {}。"},
    {"gradients.alpha", "Sensitivity by gradients over that by noise probes", "勾配による感度と雑音による感度"},
    {"gradients.alpha.x", "noise probe: divergence over r²", "雑音：ダイバージェンス ÷ r²"},
    {"gradients.alpha.y", "Fisher diagonal: the same by gradients", "フィッシャー対角：同じものを勾配から"},
    {"gradients.alpha.how", "Noise in the size of each row, one tensor at a time, against one backward pass for all of them.",
     "各行の大きさの雑音を一つずつのテンソルに加えたものと、全テンソルに一度の逆伝播の比較です。"},
    {"gradients.tensors", "tensors", "テンソル"},
    {"gradients.probe", "probe", "雑音"},
    {"gradients.gradients", "gradients", "勾配"},
    {"gradients.error", "its error", "その誤差"},
    {"gradients.harm", "What single tensors cost: predicted and measured", "一つのテンソルの害：予測と実測"},
    {"gradients.harm.how", "One tensor in one type, everything else float; a dot for each. On the line, the prediction is right.",
     "一つのテンソルだけを一つの形式にし、他は浮動小数点のままです。線の上なら予測どおりです。"},
    {"gradients.measured", "measured", "実測"},
    {"gradients.prediction", "prediction", "予測"},
    {"gradients.costs", "costs", "個数"},
    {"gradients.rank", "rank correlation", "順位相関"},
    {"gradients.within", "in one type", "同じ形式の中で"},
    {"gradients.pearson", "correlation of logarithms", "対数の相関"},
    {"gradients.level", "measured over predicted", "実測と予測の比"},
    {"gradients.scatter", "scatter", "ばらつき"},
    // The plan's page (pipeline/plan_page.cc).
    {"plan.title", "Plan for {}", "{} の計画"},
    {"plan.heading", "Types for {}", "{} の各テンソルの形式"},
    {"plan.probed", "{0} tensors probed, {1} scored tokens, {2} recipes measured", "{0} テンソルを雑音で測定、採点 {1} トークン、{2} 個の配分を実測"},
    {"plan.gradients", "{0} tensors by gradients, {1} scored tokens, {2} recipes measured", "{0} テンソルを勾配から、採点 {1} トークン、{2} 個の配分を実測"},
    {"plan.prediction", "prediction from {}; [ ]: 95 %", "予測のもと：{}；[ ]：95 %"},
    {"plan.front", "Best for their size", "その大きさで最良"},
    {"plan.front.how",
     "Every point of the line is the optimum for its size; the band is the interval of 95 %. Dots: other recipes, rounded the same way.",
     "線の各点はその大きさでの最適解、帯は 95 % 区間です。点は同じ方法で丸めた他の配分です。"},
    {"plan.plans", "plans", "計画"},
    {"plan.others", "other recipes", "他の配分"},
    {"plan.predicted", "predicted divergence", "予測ダイバージェンス"},
    {"plan.predicted.nats", "predicted divergence, nats", "予測ダイバージェンス（nat）"},
    {"plan.measured", "measured divergence", "実測ダイバージェンス"},
    {"plan.measured.nats", "measured divergence, nats", "実測ダイバージェンス（nat）"},
    {"plan.anchors", "Recipes that were rounded and measured", "実際に丸めて測った配分"},
    {"plan.anchors.x", "Σ α e: sum of the tensors' divergences", "Σ α e：各テンソルのダイバージェンスの和"},
    {"plan.anchors.how", "By search. The distance from the line of equality is what predictions are corrected by.",
     "探索による丸めです。一致の線からの距離の分だけ予測を補正します。"},
    {"plan.map", "Sensitivity: divergence per squared relative error", "感度：相対誤差の二乗あたりのダイバージェンス"},
    {"plan.map.gradients", "By the Fisher diagonal, from backward passes. Shades are logarithmic.", "逆伝播によるフィッシャー対角からです。濃さは対数です。"},
    {"plan.plan", "The plan: {0}, {1} bits per weight, predicted divergence {2} [{3}, {4}]", "計画：{0}、重みあたり {1} ビット、予測ダイバージェンス {2} [{3}, {4}]"},
    {"plan.type", "type", "形式"},
    {"plan.size", "size", "大きさ"},
    {"plan.error", "error", "誤差"},
    {"plan.share", "of the divergence", "ダイバージェンスに占める割合"},
    {"plan.sizes", "All sizes", "すべての大きさ"},
    {"plan.recipes", "Other recipes", "他の配分"},
    {"plan.recipe", "recipe", "配分"},
    {"made", "Made by tsubu {}. Point at an underlined number, or tap it, to see how it was measured.",
     "tsubu {} が作成。下線のある数値を指すかタップすると測り方が表示されます。"},
};

constexpr Sentence kSentences[] = {
    {"weights.not_finite", "有限でない値があります"},
    {"weights.holds", "元のモデルの {0} の中身が入っています"},
    {"weights.unlike", "元のモデルのテンソルではありません（コサイン {0}）"},
    {"weights.dead", "元では違うのに、{1} 個の重みがすべて同じ値になった区間が {0} か所。最初は行 {2}、列 {3} … {4}"},
    {"weights.row", "1 行が元のモデルの行ではありません: 行 {0}"},
    {"weights.row.holds", "1 行が元のモデルの行ではありません: 行 {0} に元の行 {1} が入っています"},
    {"weights.rows", "{0} 行が元のモデルの行ではありません: 行 {1} など"},
    {"weights.rows.holds", "{0} 行が元のモデルの行ではありません: 行 {1} に元の行 {2} が入っています"},
    {"weights.opposed_run", "{0} 個の重みの区間 1 か所が元と逆の向きです: 行 {1}、列 {2} … {3}"},
    {"weights.opposed_runs", "{1} 個の重みの区間 {0} か所が元と逆の向きです。最初は行 {2}、列 {3} … {4}"},
    {"weights.scaled_run", "{0} 個の重みの区間 1 か所の大きさが、テンソルの他の部分と違います（{1} 倍）: 行 {2}、列 {3} … {4}"},
    {"weights.scaled_runs", "{1} 個の重みの区間 {0} か所の大きさが、テンソルの他の部分と違います。最初（{2} 倍）は行 {3}、列 {4} … {5}"},
    {"weights.error", "誤差 {0}、{2} への単純な丸めの {1} 倍。最悪の行は {3}"},
    {"weights.float_error", "浮動小数点のテンソルなのに誤差 {0}。最悪の行は {1}"},
    {"weights.shape", "形が元のモデルと違います"},
    {"weights.missing", "ありません"},
    {"weights.transformed", "候補の重みは変換されています: {0}"},
    {"weights.folded", "正規化の重みが元と違います（AWQ がスケールを畳み込むとこうなります）"},
    {"configuration.architecture", "アーキテクチャ: 元は {0}、候補は {1}"},
    {"configuration.rope_base", "RoPE の基数: 元は {0}、候補は {1}"},
    {"configuration.rope_dimensions", "RoPE の次元数: 元は {0}、候補は {1}"},
    {"configuration.rope_factor", "RoPE の倍率: 元は {0}、候補は {1}"},
    {"configuration.rope_scaling", "RoPE の拡張方法: 元は {0}、候補は {1}"},
    {"configuration.epsilon", "正規化の ε: 元は {0}、候補は {1}"},
    {"configuration.layers", "層の数: 元は {0}、候補は {1}"},
    {"configuration.heads", "ヘッドの数: 元は {0}、候補は {1}"},
    {"configuration.kv_heads", "キーと値のヘッドの数: 元は {0}、候補は {1}"},
    {"configuration.head_dimension", "ヘッドの次元: 元は {0}、候補は {1}"},
    {"configuration.sliding_window", "注意の窓: 元は {0}、候補は {1}"},
    {"configuration.bos", "BOS トークン: 元は {0}、候補は {1}"},
    {"configuration.add_bos", "BOS の付加: 元は {0}、候補は {1}"},
    {"configuration.eos", "EOS トークン: 元は {0}、候補は {1}"},
    {"configuration.chat_template", "チャットテンプレート: 元のモデルと違います"},
    {"configuration.chat_template.missing", "チャットテンプレート: 元にはあり、候補にはありません"},
    {"configuration.chat_template.added", "チャットテンプレート: 元にはなく、候補にはあります"},
    {"configuration.tokens", "トークナイザ: {0} が元と違うトークンになります。最初はトークン {1} で、元は {2}、候補は {3}"},
    {"made.transformed", "丸める前の変換: {0}"},
    {"made.recipe", "配分 {0}"},
    {"made.calibrated", "{1} の {0} トークンを使って丸めた"},
    {"made.importance", "重要度行列 {0}"},
    {"made.trained", "その形式のまま学習: {0}"},
    {"runs.logits", "トークン {0} のロジットが有限の数ではありません: モデルが壊れています"},
    {"runs.questions", "問題でのロジットが有限の数ではありません: モデルが壊れています"},
    {"gate.not_measured", "測定されていません"},
    {"gate.more", "ほか {0} 件"},
    {"gate.worst_text", "最も悪い文書は {0}: 平均 {1}"},
    {"gate.flips", "{2} 問のうち失 {0}、得 {1}"},
    {"gate.overlap", "最も多く重なるのは {0}"},
    {"power.task", "{0} 問で {1} ポイント以上の変化が見つかります（検出力 80 %、水準 {2}、答えの {3} % が変わる場合）"},
    {"protocol.name", "{0} の方式"},
    {"protocol.chunks", "{1} トークンの区画 {0} 個"},
    {"protocol.every_position", "全位置を採点"},
    {"protocol.second_half", "語彙が付ける場合は各区画の先頭に BOS、後半を採点"},
    {"protocol.scored", "採点 {0} トークン"},
    {"protocol.kld", "KL（元 ‖ 候補）、単位 nat、全語彙、同じ実行の f32 ロジット"},
    {"protocol.activations", "活性値 {0}"},
    {"protocol.activations_8", "活性値は 8 ビットに丸め"},
    {"protocol.bf16", "bf16 の積"},
    {"protocol.bf16_noise", "bf16 の積（最初の {1} トークンで f32 の積から {0} nat）"},
    {"protocol.numerics", "計算の精度: {0}"},
    {"protocol.base", "元のモデル: 活性値 f32、同じ実行の f32 ロジット"},
    {"protocol.base_8", "元のモデル: 活性値は 8 ビットに丸め、同じ実行の f32 ロジット"},
    {"protocol.intervals", "95 % 区間: 区画ごとのブートストラップ t、再抽出 {0} 回、種 {1}"},
    {"protocol.questions", "問題は対数尤度で採点、例示なし。変化は正確なマクネマー検定、{0} 個の検定にホルムの補正。差の区間は Tango のスコア法"},
    {"protocol.prompts", "書き出し {0} 件、つねに最有力のトークンで最大 {1} トークン"},
    {"energy.none", "{0} に電力量の計数器がありません"},
    {"energy.forbidden", "{0} を読めません（多くのシステムでは管理者のみ）"},
    {"fit.held_out", "丸めに使ったものより後の {1} 個の窓、{0} トークンで測定"},
    {"fit.judged", "丸めが判定に使い、学習には使わない {1} 個の窓、{0} トークンで測定（文書を増やしてください）"},
    {"lens.size.weights.as_paper", "重み: r = {0} で、値とともに大きくなる雑音の害は {1} nat、値によらない雑音は {2}、値とともに小さくなる雑音は {3}。論文のとおり、大きな値ほど誤差に強い"},
    {"lens.size.weights.reversed", "重み: r = {0} で、値とともに大きくなる雑音の害は {1} nat、値によらない雑音は {2}、値とともに小さくなる雑音は {3}。論文とは逆"},
    {"lens.size.weights.unclear", "重み: r = {0} で、値とともに大きくなる雑音の害は {1} nat、値によらない雑音は {2}、値とともに小さくなる雑音は {3}。種によるばらつきの中で、三つの順は定まらない"},
    {"lens.size.weights.one_seed", "重み: r = {0} で、値とともに大きくなる雑音の害は {1} nat、値によらない雑音は {2}、値とともに小さくなる雑音は {3}。種がひとつなので、順はまだ確かでない"},
    {"lens.size.activations.as_paper", "活性値: r = {0} で、値とともに大きくなる雑音の害は {1} nat、値によらない雑音は {2}、値とともに小さくなる雑音は {3}。論文のとおり、大きな値ほど誤差に強い"},
    {"lens.size.activations.reversed", "活性値: r = {0} で、値とともに大きくなる雑音の害は {1} nat、値によらない雑音は {2}、値とともに小さくなる雑音は {3}。論文とは逆"},
    {"lens.size.activations.unclear", "活性値: r = {0} で、値とともに大きくなる雑音の害は {1} nat、値によらない雑音は {2}、値とともに小さくなる雑音は {3}。種によるばらつきの中で、三つの順は定まらない"},
    {"lens.size.activations.one_seed", "活性値: r = {0} で、値とともに大きくなる雑音の害は {1} nat、値によらない雑音は {2}、値とともに小さくなる雑音は {3}。種がひとつなので、順はまだ確かでない"},
    {"lens.distribution.little", "雑音の分布の形はほとんど影響しない。重みへのガウス、一様、± の雑音の差は {0} % 以内（最大は r = {1}）"},
    {"lens.distribution.more", "雑音の分布の形は論文より大きく影響する。重みへのガウス、一様、± の雑音の差は {0} % 以内（最大は r = {1}）"},
    {"lens.gamma", "同じ大きさの雑音なら、|x|^{0} に従うものが重みに最も害が少ない（{1} nat）"},
    {"lens.gamma.flat", "同じ大きさの雑音なら、|x|^{0} に従うものが重みに最も害が少ない（{1} nat、|x|^0 では {2}）"},
    {"lens.gamma.codec", "形式のうち誤差がこの最も害の少ない雑音に近いのは {0} で、|x|^{1} に従う"},
    {"lens.sensitive", "すべてのテンソルに同じ相対雑音を加えたときの害のうち、{1} 個中 {0} 個のテンソルが {2} % を占める: {3}"},
    {"lens.roles", "種類ごとの割合: {0}"},
    {"lens.clip.activations.more", "各トークンの活性値の上位 0.1 % を切り詰めると {0} nat で、Q4_K の重み（{2}）の {1} 倍の害がある"},
    {"lens.clip.activations.less", "各トークンの活性値の上位 0.1 % を切り詰めると {0} nat で、害は Q4_K の重み（{2}）の {1} 分の 1"},
    {"lens.clip.weights", "各テンソルの重みの上位 0.1 % を切り詰めると {0} nat（r = {1}）、Q4_K は {2}（r = {3}）"},
    {"lens.half.activations", "同じ相対ガウス雑音（r = {0}）の害は活性値で {1} nat、重みで {2} nat。難しいのは活性値のほう"},
    {"lens.half.weights", "同じ相対ガウス雑音（r = {0}）の害は活性値で {1} nat、重みで {2} nat。難しいのは重みのほう"},
    {"lens.integers", "整数、出力チャネルとトークンごとに一つのスケール、ブロック内の線形層: {0} の害は {1} nat（Δ ln PPL {2}、最有力トークンの一致 {3} %）"},
    {"lens.codecs", "誤差のわりに害が最も少ない形式は {0}（r = {1}、{2} のガウス雑音と同じ害）で、同じ誤差の雑音の {3} 倍。最も多いのは {4}（r = {5}、{6} のガウス雑音と同じ害）の {7} 倍"},
    {"lens.gradients.alpha", "勾配による {0} 個のテンソルの感度は {1}、雑音による感度は {2} で求めた（同じトークン）。前者は全体として後者の {3} 倍（幾何平均）、ばらつきは {4} %、順位相関は {5}"},
    {"lens.gradients.rank", "テンソルと形式の組 {0} 個を一つずつ丸めた害と、その予測の順位相関: 雑音による感度 × 入力で重みづけた誤差 {1}、勾配による感度 × 同じ誤差 {2}、重みごとのフィッシャー情報の対角 {3}、Σ|g·Δw| {4}"},
    {"lens.outlier", "最大の外れ値チャネルは {1} の入力の {0} 番で、入力の二乗平均平方根の最大 {2} 倍、エネルギーの {3} %"},
    {"lens.left_out", "時間が足りず測らなかったもの（残したセル / 全体）: {0}"},
};

}  // namespace

std::span<const Phrase> phrases() { return kPhrases; }
std::span<const Sentence> sentences() { return kSentences; }

Language language_named(std::string_view name) {
  if (name == "en") return Language::kEnglish;
  if (name == "ja") return Language::kJapanese;
  fail(ExitCode::kUsage, "unknown language '{}': en and ja are spoken", name.substr(0, 32));
}

ChartWords chart_words(const Words& w) {
  return {w("chart.zoom"), w("chart.back"), w("chart.interval"), w("chart.protocol"), w("bar"), w("chart.keys")};
}

std::string titled_figure(const std::string& chart, const std::string& title, const std::string& caption, const std::string& table, const Words& w) {
  const std::string numbers = table.empty() ? "" : "<details><summary>" + escape(w("numbers")) + "</summary>" + table + "</details>";
  if (chart.empty()) return chart_figure("", w("chart.nothing", title), numbers);
  return chart_figure("<h3>" + escape(title) + "</h3>" + chart, caption, numbers);
}

std::string Words::said(const Json& remark) const {
  if (remark.is_string()) return remark.get<std::string>();
  if (!remark.is_object()) return "";
  const auto text_of = [&](const char* key) {
    return remark.contains(key) && remark[key].is_string() ? remark[key].get<std::string>() : "";
  };
  std::string text = text_of("text");
  if (language_ == Language::kJapanese) {
    std::vector<std::string> args;
    if (remark.contains("args") && remark["args"].is_array())
      for (const Json& a : remark["args"]) args.push_back(a.is_string() ? a.get<std::string>() : a.dump());
    const std::string id = text_of("id");
    for (const Sentence& s : kSentences)
      if (s.id == id) text = fill(s.japanese, args);
  }
  const std::string about = text_of("about");
  return about.empty() ? text : about + ": " + text;
}

std::string Words::all_said(const Json& remarks) const {
  if (!remarks.is_array()) return said(remarks);
  std::string out;
  for (const Json& s : remarks) out += (out.empty() ? "" : language_ == Language::kJapanese ? "；" : "; ") + said(s);
  return out;
}

std::string Words::operator()(std::string_view key) const {
  for (const Phrase& p : kPhrases)
    if (p.key == key) return std::string(language_ == Language::kJapanese ? p.japanese : p.english);
  return std::string(key);
}

}  // namespace tsubu
