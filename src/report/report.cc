#include "report/report.h"

#include <fmt/format.h>

#include "base/error.h"
#include "report/html.h"
#include "report/page.h"
#include "report/script.h"

namespace tsubu {
namespace {

// Colors of the series: Okabe and Ito's, which people with every kind of color vision tell apart; darker or lighter by
// theme.
constexpr const char* kStyle = R"css(
:root{--ink:#1b1f24;--soft:#57606a;--paper:#fff;--card:#f6f8fa;--line:#d0d7de;--ok:#0a6b3d;--okbg:#dff5e7;--bad:#a40e26;--badbg:#ffe3e6;--heat:#0072b2;
--c0:#57606a;--c1:#0072b2;--c2:#d55e00;--c3:#009e73;--c4:#b0529a;--c5:#8a6d00;--c6:#3c8fc4;--c7:#333}
@media screen and (prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa5b1;--paper:#0f1419;--card:#171d24;--line:#323c47;--ok:#5ad190;--okbg:#12351f;--bad:#ff8b96;--badbg:#43151b;--heat:#58b4ee;
--c0:#a0abb6;--c1:#58b4ee;--c2:#ff9d57;--c3:#39cfa1;--c4:#e393cf;--c5:#e6c84d;--c6:#9bd2f5;--c7:#ddd}}
*{box-sizing:border-box}html{color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,"Segoe UI","Hiragino Sans","Noto Sans CJK JP","Noto Sans JP",sans-serif}
main{max-width:860px;margin:0 auto;padding:20px 16px 60px}h1{font-size:1.7rem;line-height:1.25;margin:.4em 0}h2{font-size:1.25rem;margin:2.2em 0 .4em;padding-top:.6em;border-top:1px solid var(--line)}h3{font-size:1rem;margin:1.4em 0 .3em}
p{margin:.5em 0}.note,.ci,.made{color:var(--soft)}.ci{font-size:.85em;white-space:nowrap}nav{margin:.6em 0;font-size:.9em}nav a{margin-right:1em;display:inline-block;color:var(--c1)}
.scroll{overflow-x:auto;margin:.6em 0}table{border-collapse:collapse;font-size:.88rem;min-width:100%}th,td{padding:.35em .6em;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}th{color:var(--soft);font-weight:600}
.n{text-align:right;font-variant-numeric:tabular-nums}td.n{white-space:nowrap}code{font-size:.9em}.v{border-bottom:1px dotted var(--soft);cursor:help}
figure{margin:.8em 0;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:8px}svg{display:block;width:100%;height:auto;font:13px system-ui,"Noto Sans CJK JP",sans-serif}
svg text{fill:var(--ink)}svg .axis{fill:var(--soft)}svg .small{font-size:11px}svg .on{fill:var(--paper)}.grid{stroke:var(--line);stroke-width:1}.zero{stroke:var(--ink);stroke-width:1.5}.limit{stroke:var(--bad);stroke-width:2;stroke-dasharray:5 3}
.front{fill:none;stroke:var(--soft);stroke-width:1.5;stroke-dasharray:4 4}.curve{fill:none;stroke:var(--c);stroke-width:2}.err{stroke:var(--c);stroke-width:2}.dot,.bar{fill:var(--c)}.cell{fill:var(--heat)}.cell.bad{fill:var(--bad);stroke:var(--bad);stroke-width:2}
.s0{--c:var(--c0)}.s1{--c:var(--c1)}.s2{--c:var(--c2)}.s3{--c:var(--c3)}.s4{--c:var(--c4)}.s5{--c:var(--c5)}.s6{--c:var(--c6)}.s7{--c:var(--c7)}
.m{white-space:nowrap}.key{display:inline-block;width:.75em;height:.75em;border-radius:50%;background:var(--c);margin-right:.45em}.verdict{font-size:1.15rem;font-weight:600;padding:.7em 1em;border-radius:8px}
.verdict.ok,.tag.ok{background:var(--okbg);color:var(--ok)}.verdict.bad,.tag.bad{background:var(--badbg);color:var(--bad)}.tag{padding:.1em .55em;border-radius:9px;font-size:.85em;font-weight:600;white-space:nowrap}p.bad{color:var(--bad)}
.toggles{display:flex;flex-wrap:wrap;gap:6px;margin:2px 0 6px}.toggles button{font:inherit;font-size:.82rem;color:var(--ink);background:none;border:1px solid var(--line);border-radius:9px;padding:.15em .7em;cursor:pointer}.toggles button[aria-pressed=false]{opacity:.45;text-decoration:line-through}
.tip{position:fixed;z-index:9;max-width:min(32em,90vw);padding:.35em .7em;border-radius:6px;background:var(--ink);color:var(--paper);font-size:.82rem;pointer-events:none}.tip[hidden]{display:none}svg [data-tip]:hover,svg [data-tip]:focus{filter:brightness(1.25);outline:none;stroke:var(--ink);stroke-width:1.5}
.ring{fill:none;stroke:var(--c);stroke-width:2}dt{margin-top:.6em}dd{margin:.1em 0 .1em 1.2em}
.verdicts{list-style:none;padding:0}.verdicts li{margin:.3em 0;overflow-wrap:anywhere}.verdicts ul{margin:.1em 0 .5em;padding-left:1.3em;font-size:.92em}summary{cursor:pointer;margin:.4em 0}
@media(max-width:560px){main{padding:12px 10px 40px}h1{font-size:1.35rem}svg{font-size:17px}svg .small{font-size:14px}}
@media print{:root{color-scheme:light}body{font-size:11px}main{max-width:none;padding:0}figure,tr{break-inside:avoid}h2,h3,h2+p,h3+p{break-after:avoid}nav,.toggles,.tip{display:none}.scroll{overflow:visible}.v{border:0}}
)css";

void need(const Run& run, const char* key) {
  if (!run.json.contains(key))
    fail(ExitCode::kBadInput, "{}: expected the key \"{}\" that such a run has", run.path, key);
}

}  // namespace

std::string run_kind(const Run& run) {
  const Json& j = run.json;
  if (j.is_object()) {
    if (j.contains("candidates") && j.contains("gates")) return "certify";
    if (j.contains("prefill") && j.contains("decode") && j.contains("limits")) return "bench";
    if (j.contains("perplexity") && j.contains("tokens_scored")) return "eval";
    if (j.contains("cells") && j.contains("sensitivities") && j.contains("codecs")) return "lens";
    if (j.contains("tensors") && j.contains("bits_per_weight") && j.contains("source_bytes"))
      return j.contains("training") ? "tune" : "quantize";
  }
  fail(ExitCode::kBadInput, "{}: not the JSON of certify, eval, bench, lens, quantize or tune (make it with --json, or certify -o)",
       run.path);
}

std::string make_report(std::span<const Run> runs, const ReportOptions& options) {
  for (const Run& run : runs) {
    const std::string kind = run_kind(run);
    if (kind == "certify")
      for (const char* key : {"base", "texts", "calibration_texts", "tasks", "stability", "verdict"}) need(run, key);
    if (kind == "bench") need(run, "model");
  }
  std::string body;
  PageData page;
  Json explained;
  try {
    page = gather(runs, options);
    explained = explained_rows(page);
    body = verdict_section(page) + models_section(page) + pareto_section(page) + divergence_section(page) +
           layers_section(page) + lens_section(page) + training_section(page) + tasks_section(page) + generation_section(page) + worst_section(page) +
           speed_section(page) + cost_section(page) + how_section(page, runs) + explain_section(page, explained);
  } catch (const Json::exception& e) {
    fail(ExitCode::kBadInput, "{}: a run's JSON is not what its command writes: {}",
         runs.empty() ? "" : runs.front().path, e.what());
  }
  const Words& w = page.words;
  const bool japanese = options.language == Language::kJapanese;
  const std::string title = escape(options.title.empty() ? w("title") : options.title);
  std::string nav;
  for (const char* id :
       {"models", "pareto", "divergence", "layers", "lens", "tune", "tasks", "generation", "worst", "speed", "cost", "how", "explain"})
    if (body.find(fmt::format("<section id=\"{}\">", id)) != std::string::npos)
      nav += fmt::format("<a href=\"#{}\">{}</a>", id, escape(w(id)));
  Json all = Json::array();
  for (const Run& run : runs) all.push_back({{"path", run.path}, {"run", run.json}});
  all.push_back({{"explained", explained}});
  all.push_back({{"worked_out", page.worked_out}});
  return fmt::format(
      "<!doctype html>\n<html lang=\"{}\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src {}\">\n"
      "<title>{}</title><style>{}</style></head>\n<body><main><h1>{}</h1><p class=\"made\">{}</p><nav>{}</nav>\n{}"
      "<details><summary>{}</summary><div class=\"scroll\"><pre "
      "id=\"runs\">{}</pre></div></details>\n</main>\n<script>{}</script></body></html>\n",
      japanese ? "ja" : "en", page_script_hash(), title, kStyle, title, fmt::format(fmt::runtime(escape(w("made"))), TSUBU_VERSION), nav,
      body, escape(w("json")), escape(dump_json(all)), page_script());
}

}  // namespace tsubu
