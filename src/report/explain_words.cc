// The lists behind `explain`: what each word, measure, method and type is, in both languages.
#include "report/explain.h"

namespace tsubu {
namespace {

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
     "Where the intervals come from: chunks of text are drawn again and again with replacement, and the spread of the "
     "results says how far the mean may be off. Whole chunks, because tokens of one chunk are not independent.",
     "区間の求め方。文書の区画を重複を許して何度も引き直し、結果のばらつきから平均の誤差の範囲を求めます。"
     "同じ区画のトークンは独立でないため、区画ごと引きます。"},
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

// Words that the others are explained with.
constexpr MetricWords kTerms[] = {
    {"block",
     "Some weights of a row that are stored together: one scale (and, in some types, a minimum) for all of them, and a small integer, the code, for "
     "each. Types named …_K have a block of 256 (super-block) in sub-blocks, whose scales are small integers themselves.",
     "行のうち、まとめて保存されるいくつかの重みです。全体にひとつのスケール（形式によっては最小値も）、重みごとに小さな整数（コード）を持ちます。"
     "…_K という形式は 256 個のスーパーブロックを小ブロックに分け、そのスケールも小さな整数で持ちます。"},
    {"scale",
     "The step between neighboring levels of a block: weight ≈ scale · level. One large weight makes its whole block's step large, which is why "
     "outliers cost so much and why small blocks are more exact and take more bits.",
     "ブロックの隣り合う水準の間隔です（重み ≈ スケール × 水準）。大きな重みがひとつあるとブロック全体の間隔が広がるため、外れ値は高くつき、小さなブロックほど"
     "正確ですがビットを多く使います。"},
    {"calibration",
     "Text that the model reads while it is quantized, to learn which inputs its matrices see. Rounding then keeps the outputs on such inputs instead of the "
     "weights themselves. Take text like your own use, and other text than you certify with.",
     "量子化のときにモデルに読ませ、各行列にどのような入力が来るかを知るための文書です。重みそのものではなく、その入力での出力を保つように丸めます。"
     "実際の用途に近く、判定には使わない文書を選びます。"},
    {"importance",
     "Mean square of each input of a matrix on calibration text: weights that meet large inputs matter more. Kept in an importance matrix (imatrix) file, a "
     "number for each column.",
     "較正用の文書での、行列の各入力の二乗平均です。大きな入力に掛かる重みほど重要です。列ごとにひとつの数を、重要度行列（imatrix）のファイルに保存します。"},
    {"gram",
     "Gram matrix: mean products of all pairs of inputs of a matrix on calibration text. It tells not only how large inputs are but which go together, so that "
     "the error of one weight can be made up for by another. Size: columns × columns for each input.",
     "グラム行列。較正用の文書での、行列の入力どうしの積の平均です。大きさだけでなく、どの入力が連動するかを示すため、ひとつの重みの誤差を別の重みで"
     "埋め合わせられます。大きさは入力ごとに列数 × 列数。"},
    {"simulated",
     "Simulated formats: numbers rounded as a format of the literature would (int4:channel, nf4, power …) and kept as floats. They show what the format "
     "costs in quality; no runtime reads them.",
     "模擬形式。文献の形式（int4:channel、nf4、power など）と同じように丸め、浮動小数点のまま持ちます。品質の損失を調べるためのもので、そのまま実行する環境はありません。"},
    {"activations",
     "The numbers that flow through the model while it runs, as opposed to its weights. They depend on the text, and some channels are far larger than the "
     "others (outliers), which makes them the harder half to round.",
     "実行中にモデルの中を流れる数で、重みとは別のものです。文書によって変わり、一部のチャネルは他よりはるかに大きい（外れ値）ため、重みより丸めにくくなります。"},
    {"token",
     "The piece of text that a model reads and writes at a time: a word or a part of one. English has about 1.3 tokens a word in usual vocabularies.",
     "モデルが一度に読み書きする文章の断片で、語または語の一部です。"},
    {"nat",
     "The unit of divergence and of surprise: natural logarithms. A token of probability p costs −ln p nats; 1 nat is 1.44 bits.",
     "ダイバージェンスと「驚き」の単位（自然対数）です。確率 p のトークンの驚きは −ln p nat、1 nat は 1.44 ビットです。"},
    {"tensor",
     "A matrix or vector of the model by its name: blk.3.ffn_up.weight is the ffn_up matrix of layer 3 (counted from 0). attn_q, attn_k, attn_v and attn_output are the "
     "attention's, ffn_gate, ffn_up and ffn_down the feed-forward's, token_embd holds a row for each token, output makes the predictions. A row makes one output, "
     "a column takes one input.",
     "モデルの行列やベクトルを名前で呼んだものです。blk.3.ffn_up.weight は第 3 層（0 から数える）の ffn_up 行列です。attn_q、attn_k、attn_v、attn_output は注意機構、ffn_gate、ffn_up、"
     "ffn_down は順伝播層、token_embd はトークンごとに一行、output は予測を作ります。行はひとつの出力を作り、列はひとつの入力を受け取ります。"},
    {"interval",
     "95 % interval [low, high]: made so that it holds the true value, what an endless text of this kind would give, about 95 times in 100. A wide one asks for more text.",
     "95 % 区間 [下端, 上端]。同じ種類の文書が無限にあったときの真の値を、100 回のうち約 95 回含むように作ります。広ければ文書を増やします。"},
    {"cosine",
     "How alike two lists of numbers point: 1 the same direction, 0 nothing in common, −1 the opposite. A rounded row stays above 0.9 of its own at 4 bits; rows that have "
     "nothing to do with each other lie near 0.",
     "二つの数の並びの向きの近さです。1 は同じ向き、0 は無関係、−1 は逆向きです。4 ビットに丸めた行は元の行と 0.9 以上、無関係な行どうしは 0 に近くなります。"},
    {"rope",
     "Rotary positions: how the model knows where a token stands, by turning parts of its numbers by angles. The rope base sets the angles; a wrong one makes far tokens "
     "blur, short texts hardly show it.",
     "回転位置埋め込み。数の一部を角度で回すことで、トークンの位置を表します。RoPE の基数がその角度を決め、間違っていると遠いトークンがぼやけます。短い文章ではほとんど気づけません。"},
    {"chat_template",
     "The text that a conversation is wrapped in before the model reads it: who speaks, where a turn ends. With another one than it was trained with a model answers badly "
     "though its weights are right.",
     "会話をモデルに読ませる前に包む文面です。誰の発言か、どこで終わるかを示します。学習時と違うと、重みが正しくても答えが悪くなります。"},
    {"sensitivity",
     "Divergence over the squared relative error of one tensor: what a unit of error costs there. Tensors with a large one deserve more bits.",
     "ひとつのテンソルの相対誤差の二乗あたりのダイバージェンスで、そこでの誤差の代償です。大きいテンソルほど多くのビットに値します。"},
    {"noise_floor",
     "What the same model differs from itself by when it is computed otherwise: 0 here, and a little in runtimes that round activations to 8 bits and the cache to "
     "16. A loss below that cannot be seen there.",
     "同じモデルを別の計算のしかたで動かしたときの、自分自身との差です。ここでは 0、活性値を 8 ビット、キャッシュを 16 ビットに丸める実行環境では少しあります。"
     "それより小さい損失はそこでは見えません。"},
};

// What each limit of certify holds, for the page and for `explain`.
constexpr MetricWords kGates[] = {
    {"max_kld", "Limit: the mean divergence from the base, with the upper end of its interval, stays below it. See kld.",
     "基準：元からの平均ダイバージェンス（95 % 区間の上端）がこの値以下であること。kld を参照。"},
    {"max_kld_p99", "Limit: 99 of 100 tokens diverge by less. The rare bad token is what readers notice.",
     "基準：100 トークンのうち 99 のダイバージェンスがこの値以下であること。まれな悪いトークンほど読み手の目につきます。"},
    {"max_text_kld", "Limit: the mean divergence on the worst of the texts, so that harm to one language or kind of text is not hidden in a mean over all.",
     "基準：最も悪い文書での平均ダイバージェンス。ひとつの言語や種類への害が全体の平均に隠れないようにします。"},
    {"min_top1", "Limit: at least this share of tokens keeps the same likeliest token, with the lower end of its interval. See top1.",
     "基準：最有力トークンが変わらない割合（95 % 区間の下端）がこの値以上であること。top1 を参照。"},
    {"max_ppl_ratio", "Limit: perplexity over the base's, with the upper end of its interval. See perplexity.",
     "基準：パープレキシティの元との比（95 % 区間の上端）がこの値以下であること。perplexity を参照。"},
    {"max_flips", "Limit: the share of questions whose answer turned right or wrong, in the worst task. See flips.",
     "基準：答えが正解にも不正解にも変わった問題の割合（最も悪い課題）がこの値以下であること。flips を参照。"},
    {"max_unended", "Limit: the share of prompts whose continuation comes to no end, beyond the base's. A model that does not stop is broken for its users.",
     "基準：続きが終わらない書き出しの割合（元より多い分）がこの値以下であること。止まらないモデルは使えません。"},
    {"min_speedup", "Limit: speed of writing over the base's, both measured by `tsubu bench` on this machine. See speed.",
     "基準：生成の速さの元との比（この機械で `tsubu bench` により実測）がこの値以上であること。speed を参照。"},
    {"max_memory", "Limit: the most memory that a process running the model took, weights and cache together.",
     "基準：モデルを動かすプロセスの最大メモリ（重みとキャッシュの合計）がこの値以下であること。"},
    {"max_size", "Limit: bytes of the weights as they are stored, scales and tables included; a file has a little more. See bits_per_weight.",
     "基準：スケールや表を含め、保存された重みのバイト数がこの値以下であること。ファイルはこれより少し大きくなります。bits_per_weight を参照。"},
    {"max_overlap", "Limit: how much of a text that judges stands in the text that was calibrated with. See leakage.",
     "基準：判定用の文書が較正用の文書と重なる割合がこの値以下であること。leakage を参照。"},
    {"weights",
     "Limit, always on: how many matrices are no rounding of the base's. Every number of each is compared with the base's: another matrix or row in its place, values that "
     "are not finite, runs of one single value (a lost scale), of turned signs, of another scale than the rest, or an error far beyond what the type makes. Any is a damaged "
     "or mixed-up file, however small its divergence.",
     "つねに有効な基準：元の丸めとは言えない行列の数。すべての数を元と比べ、別の行列や行が入っている、有限でない値、ひとつの値だけの区間（失われたスケール）、符号の反転した区間、"
     "大きさの違う区間、形式からは説明できない誤差を探します。ダイバージェンスが小さくても、ひとつでもあればファイルは壊れているか取り違えられています。"},
    {"configuration",
     "Limit, always on: how many settings differ from the base's: those that change what is computed (rope base, epsilon, heads …), special tokens, the chat template, and "
     "whether its own tokenizer makes the base's tokens of the texts.",
     "つねに有効な基準：元と違う設定の数。計算を変えるもの（RoPE の基数、ε、ヘッドなど）、特殊トークン、チャットテンプレート、そして候補自身のトークナイザが文書を元と同じトークンにするかを調べます。"},
    {"runs", "Limit, always on: 1 when the model gives numbers that are not finite; nothing else can be measured then.",
     "つねに有効な基準：モデルの出力に有限でない数があれば 1。その場合ほかの値は測れません。"},
};

// Needs and formats are those of round/methods.cc.
constexpr MethodWords kMethods[] = {
    {"nearest", "To compare with: what formats do without any care.", "比較の基準に。工夫のない丸めです。",
     "最大の値を最も外側の水準に合わせ、各重みを最も近い水準に丸める", "なし", "模擬形式"},
    {"search", "Always, where there is no text: costs seconds, needs nothing, and importance makes it better.",
     "文書がないときの標準。数秒で済み、重要度があればさらに良くなります。",
     "ブロックごとに、重み付き二乗誤差が最小になるスケールと最小値を探す", "重要度（任意）", "すべての形式、模擬形式"},
    {"hqq", "Without text, at 2 to 4 bits with large groups.", "文書なし、2〜4 ビットで大きな群のとき。",
     "半二次分割により、p = 0.7 のノルムの誤差が最小になる零点（またはスケール）を求める", "なし", "表のない模擬形式"},
    {"power", "For studies of non-uniform levels in one scale for each row.",
     "行ごとにひとつのスケールで不均一な水準を調べるとき。",
     "根を取ってから等間隔に丸める（立方根とその一般化）", "なし", "power の模擬形式"},
    {"gptq-plain", "To compare with the published method.", "公開された方法との比較に。",
     "誤差の埋め合わせ。群に入るときの最大値からスケールを決め、列は並べ替えない", "グラム行列", "模擬形式"},
    {"gptq", "With calibration text: the errors of one weight are made up for by the next ones.",
     "較正用の文書があるとき。ひとつの重みの誤差を次の重みが埋め合わせます。",
     "誤差の埋め合わせ。補正後の重みからスケールを選ぶ", "グラム行列", "水準の格子を持つ形式、模擬形式"},
    {"refine", "After any of the others, with calibration text: slower, and never worse on the text that it sees.",
     "較正用の文書があるとき、他の方法のあとに。時間はかかりますが、見た文書では悪くなりません。",
     "出力の誤差が減るかぎり、コード、スケール、零点、表を動かす", "グラム行列", "水準の格子を持つ形式、模擬形式"},
    {"kmeans", "For tables of levels, 2 to 4 bits.", "水準の表を使う形式（2〜4 ビット）に。",
     "行または群ごとの水準の表。hqq と power 以外の方法の出発点", "重要度（任意）", "kmeans の模擬形式"},
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

// What a type is in Japanese; its English stands with the codec.
struct TypeWords {
  std::string_view name, japanese;
};
constexpr TypeWords kTypes[] = {
    {"F32", "IEEE 単精度"},
    {"F16", "IEEE 半精度"},
    {"BF16", "bfloat16: 単精度の範囲、有効 8 ビット"},
    {"Q8_0", "8 ビット、32 個の重みにひとつのスケール、対称"},
    {"Q4_0", "4 ビット、32 個の重みにひとつのスケール、対称"},
    {"Q4_1", "4 ビット、32 個の重みにひとつのスケールと最小値"},
    {"Q5_0", "5 ビット、32 個の重みにひとつのスケール、対称"},
    {"Q5_1", "5 ビット、32 個の重みにひとつのスケールと最小値"},
    {"Q2_K", "2 ビット、16 個ずつ 16 組、4 ビットのスケールと最小値"},
    {"Q3_K", "3 ビット、16 個ずつ 16 組、6 ビットのスケール、対称"},
    {"Q4_K", "4 ビット、32 個ずつ 8 組、6 ビットのスケールと最小値"},
    {"Q5_K", "5 ビット、32 個ずつ 8 組、6 ビットのスケールと最小値"},
    {"Q6_K", "6 ビット、16 個ずつ 16 組、8 ビットのスケール、対称"},
    {"IQ4_NL", "4 ビット、不均一な水準、32 個の重みにひとつのスケール"},
    {"IQ4_XS", "4 ビット、不均一な水準、32 個ずつ 8 組、6 ビットのスケール"},
    {"IQ1_S", "1.5 ビット、8 次元格子の三値の点、32 個にひとつのスケール"},
    {"IQ1_M", "1.75 ビット、8 次元格子の三値の点、16 個にひとつのスケール"},
    {"IQ2_XXS", "2 ビット、8 次元格子の点、32 個にひとつのスケール"},
    {"IQ2_XS", "2 ビット、8 次元格子の点、16 個にひとつのスケール"},
    {"IQ2_S", "2 ビット、より大きな 8 次元格子の点、符号は自由"},
    {"IQ3_XXS", "3 ビット、4 次元格子の点、32 個にひとつのスケール"},
    {"IQ3_S", "3 ビット、より大きな 4 次元格子の点、符号は自由"},
    {"TQ1_0", "三値、1 バイトに 5 個、256 個にひとつのスケール"},
    {"TQ2_0", "三値、1 バイトに 4 個、256 個にひとつのスケール"},
    {"MXFP4", "4 ビット浮動小数点（E2M1）、32 個に 2 の冪のスケールひとつ"},
    {"NVFP4", "4 ビット浮動小数点（E2M1）、16 個に FP8 のスケールひとつ"},
    {"Q1_0", "1 ビット: 符号のみ、128 個にひとつのスケール"},
    {"Q2_0", "2 ビット: −1、0、1、2 と、64 個にひとつのスケール"},
    {"Q8_1", "8 ビットの活性値、32 個にひとつのスケールと和"},
    {"Q8_K", "8 ビットの活性値、256 個にひとつのスケールと和"},
    {"I8", "8 ビット整数"},
    {"I16", "16 ビット整数"},
    {"I32", "32 ビット整数"},
    {"I64", "64 ビット整数"},
    {"F64", "64 ビット浮動小数点"},
};

}  // namespace

std::span<const MetricWords> metric_words() { return kMetrics; }
std::span<const MetricWords> term_words() { return kTerms; }
std::span<const MetricWords> gate_words() { return kGates; }
std::span<const MethodWords> method_words() { return kMethods; }
std::span<const Advice> advice_by_bits() { return kAdvice; }

std::string_view japanese_of_type(std::string_view name) {
  for (const TypeWords& t : kTypes)
    if (t.name == name) return t.japanese;
  return "";
}

}  // namespace tsubu
