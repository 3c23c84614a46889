// The sections of the page.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/size.h"
#include "page/html.h"
#include "report/page.h"

namespace tsubu {
namespace {

std::string base_name(const std::string& path) {
  const size_t end = path.find_last_not_of('/');
  if (end == std::string::npos) return path;
  const size_t slash = path.find_last_of('/', end);
  return path.substr(slash == std::string::npos ? 0 : slash + 1,
                     end - (slash == std::string::npos ? 0 : slash + 1) + 1);
}

// How a run was measured, in the page's language where it says so in parts.
std::string protocol_of(const Json& run, const Words& w) {
  if (run.contains("protocol_parts")) return w.all_said(run.at("protocol_parts"));
  return run.contains("protocol") ? w.said(run.at("protocol")) : "";
}

double num(const Json& j, const char* key, double otherwise = NAN) {
  return j.is_object() && j.contains(key) && j[key].is_number() ? j[key].get<double>() : otherwise;
}

std::string str(const Json& j, const char* key) {
  return j.is_object() && j.contains(key) && j[key].is_string() ? j[key].get<std::string>() : "";
}

std::string sig(double v, int digits = 4) { return std::isfinite(v) ? fmt::format("{:.{}g}", v, digits) : "–"; }
std::string percent(double v) { return std::isfinite(v) ? fmt::format("{:.2f} %", 100 * v) : "–"; }

std::string with_interval(double v, const Json& ci, int digits = 4) {
  if (!ci.is_array() || ci.size() != 2) return sig(v, digits);
  return fmt::format("{} <span class=\"ci\">[{}, {}]</span>", sig(v, digits), sig(ci.at(0).get<double>(), digits),
                     sig(ci.at(1).get<double>(), digits));
}

std::string section(const std::string& id, const std::string& title, const std::string& lead, const std::string& body) {
  if (body.empty()) return "";
  return fmt::format("<section id=\"{}\"><h2>{}</h2>\n{}{}</section>\n", id, escape(title),
                     lead.empty() ? "" : "<p>" + escape(lead) + "</p>\n", body);
}

std::string swatch(const ShownModel& m) {
  return fmt::format("<span class=\"m\"><span class=\"key s{}\"></span>{}</span>", m.series % kSeriesColors,
                     escape(m.name));
}

bool has_divergence(const ShownModel& m) { return !m.is_base && m.data.is_object() && m.data.contains("divergence"); }

// A limit and a value of these gates are bytes.
bool is_size(const std::string& gate) { return gate == "max_memory" || gate == "max_size"; }

// Measured on tokens of text, as the run's protocol says.
bool is_of_text(const std::string& gate) { return gate.find("kld") != std::string::npos || gate == "min_top1" || gate == "max_ppl_ratio"; }

std::string gate_number(const std::string& gate, const Json& v) {
  if (!v.is_number()) return "–";
  return is_size(gate) ? format_size(static_cast<uint64_t>(v.get<double>())) : sig(v.get<double>(), 5);
}

// "max_kld 0.44 (0.48), limit 0.05: worst text a.txt". The bound is shown where it is another number than the value.
std::string broken_gate(const Json& g, const Words& w) {
  const std::string name = str(g, "name"), value = gate_number(name, g.at("value")), bound = gate_number(name, g.at("bound"));
  std::string out = gate_link(name) + " " + value;
  if (bound != value) out += " (" + escape(w("bound")) + " " + bound + ")";
  out += ", " + escape(w("bar")) + " " + gate_number(name, g.at("limit"));
  // Runs of before had one text only.
  const std::string detail = g.contains("reasons") ? w.all_said(g.at("reasons")) : str(g, "detail");
  return detail.empty() ? out : out + ": " + escape(detail);
}

double ppl_ratio(const PageData& page, const std::string& of, const Json& j) {
  return page.derived(of + ": perplexity over the base's", std::exp(num(j, "ln_ppl_ratio")));
}

// "blk.3.ffn_up.weight" → (3, "ffn_up"); others → (-1, "output").
std::pair<int, std::string> place_of(const std::string& tensor) {
  std::string rest = tensor.ends_with(".weight") ? tensor.substr(0, tensor.size() - 7) : tensor;
  if (!rest.starts_with("blk.")) return {-1, rest};
  const size_t dot = rest.find('.', 4);
  if (dot == std::string::npos) return {-1, rest};
  return {std::atoi(rest.c_str() + 4), rest.substr(dot + 1)};
}

std::string error_map(const PageData& page, const Json& tensors, const char* key) {
  const Words& w = page.words;
  std::map<int, std::map<std::string, HeatCell>> cells;
  HeatChart map;
  for (const Json& t : tensors) {
    const double v = num(t, key);
    const auto [layer, role] = place_of(str(t, "name"));
    const bool bad = t.contains("finding");
    if (layer < 0 || (!(v > 0) && !bad) || role.find("norm") != std::string::npos || role.ends_with(".bias")) continue;
    if (std::find(map.columns.begin(), map.columns.end(), role) == map.columns.end()) map.columns.push_back(role);
    cells[layer][role] = {v, str(t, "name") + ", " + str(t, "type"), bad ? w.said(t.at("finding")) : "", bad};
  }
  static constexpr const char* kOrder[] = {"attn_q",      "attn_k",   "attn_v", "attn_qkv",
                                           "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
  const auto rank = [&](const std::string& c) {
    return std::find(std::begin(kOrder), std::end(kOrder), c) - std::begin(kOrder);
  };
  std::stable_sort(map.columns.begin(), map.columns.end(), [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  std::vector<std::string> headings = {w("layer")};
  for (const std::string& c : map.columns) headings.push_back(">" + c);
  HtmlTable table(std::move(headings));
  for (const auto& [layer, row] : cells) {
    map.rows.push_back(std::to_string(layer));
    map.cells.emplace_back();
    std::vector<std::string> line = {std::to_string(layer)};
    for (const std::string& c : map.columns) {
      const auto cell = row.find(c);
      map.cells.back().push_back(cell == row.end() ? std::nullopt : std::optional(cell->second));
      line.push_back(cell == row.end() ? "" : with_protocol(sig(cell->second.value), w("error.how")));
    }
    table.add(std::move(line));
  }
  map.title = map.value_name = w("error");
  map.protocol = w("error.how");
  const std::string chart = page.charts.add(map);
  return chart.empty() ? "" : chart_figure(chart) + "<details><summary>" + escape(w("error")) + "</summary>" + table.html() + "</details>\n";
}

// What the limits of the runs allow the model to take of memory.
std::optional<double> most_memory(const PageData& page, const std::string& model) {
  for (const Json* run : page.certifies)
    for (const Json& g : run->at("gates"))
      if (str(g, "name") == "max_memory" && base_name(str(g, "candidate")) == model && std::isfinite(num(g, "limit"))) return num(g, "limit");
  return {};
}

// The numbers of curves over the same values: a row for each value.
std::string points_table(const XyChart& chart, const Words& w) {
  std::map<double, std::vector<std::string>> rows;
  std::vector<std::string> headings = {">" + chart.x.name};
  for (size_t s = 0; s < chart.series.size(); ++s) {
    headings.push_back(">" + chart.series[s].name);
    for (const ChartPoint& p : chart.series[s].points) {
      auto& row = rows[p.x];
      row.resize(chart.series.size());
      row[s] = with_protocol(chart.y.is_share ? percent(p.y) : sig(p.y), chart.series[s].protocol);
    }
  }
  HtmlTable table(std::move(headings));
  for (auto& [x, row] : rows) {
    row.insert(row.begin(), sig(x, 3));
    table.add(std::move(row));
  }
  return table.empty() ? "" : "<details><summary>" + escape(w("numbers")) + "</summary>" + table.html() + "</details>\n";
}

// Whether the verdict is the same under other seeds, wordings and numbers of threads.
std::string stability_list(const Json& stability, const Words& w) {
  std::string out;
  const auto add = [&](const std::string& what, const Json& of) {
    out += "<li>" + what + ": " + escape(w(of.at("same_verdict").get<bool>() ? "stable" : "unstable")) + "</li>";
  };
  add(escape(w("stability")), stability);
  if (stability.contains("templates"))
    for (const Json& t : stability.at("templates"))
      add(fmt::format(fmt::runtime(escape(w("stability.template"))), escape(str(t, "template"))), t);
  if (stability.contains("threads") && stability.at("threads").is_object()) {
    const Json& t = stability.at("threads");
    const auto n = [&](const char* key) { return sig(num(t, key), 9); };
    add(fmt::format(fmt::runtime(escape(w("stability.threads"))), t.at("numbers").at(0).get<int>(),
                    t.at("numbers").at(1).get<int>(), n("chunks"), n("questions"), n("prompts"), n("differ"),
                    n("compared")),
        t);
  }
  return "<ul>" + out + "</ul>";
}

}  // namespace

PageData gather(std::span<const Run> runs, const ReportOptions& options) {
  PageData page;
  page.options = &options;
  page.words = Words(options.language);
  const Words& w = page.words;
  page.charts = Charts(chart_words(w));
  const auto find = [&](const std::string& path, bool is_base) -> ShownModel& {
    const std::string name = base_name(path);
    for (ShownModel& m : page.models)
      if (m.name == name && m.is_base == is_base) return m;
    ShownModel m;
    m.name = name;
    m.is_base = is_base;
    page.models.push_back(m);
    return page.models.back();
  };
  for (const Run& run : runs) {
    const std::string kind = run_kind(run);
    const Json& j = run.json;
    if (kind == "certify") {
      page.certifies.push_back(&j);
      const auto fill = [&](const Json& data, bool is_base) {
        ShownModel& m = find(str(data, "path"), is_base);
        m.type = str(data, "type");
        m.bits_per_weight = num(data, "bits_per_weight", 0);
        m.size_bytes = num(data, "size_bytes", 0);
        m.data = data;
        m.protocol = protocol_of(j, page.words);
        if (data.contains("speed")) m.speed = data.at("speed");
      };
      fill(j.at("base"), true);
      for (const Json& c : j.at("candidates")) fill(c, false);
    } else if (kind == "eval") {
      if (j.contains("base")) find(str(j, "base"), true);
      ShownModel& m = find(str(j, "model"), false);
      if (m.data.is_null()) m.data = j;
      if (m.protocol.empty()) m.protocol = protocol_of(j, page.words);
    } else if (kind == "bench") {
      const std::string name = base_name(str(j, "model"));
      const auto known =
          std::find_if(page.models.begin(), page.models.end(), [&](const ShownModel& m) { return m.name == name; });
      (known != page.models.end() ? *known : find(str(j, "model"), false)).speed = j;
    } else if (kind == "lens") {
      page.lenses.push_back(&j);
    } else {
      page.quantizes.push_back(&j);
    }
  }
  std::stable_sort(page.models.begin(), page.models.end(),
                   [](const ShownModel& a, const ShownModel& b) { return a.is_base > b.is_base; });
  for (size_t i = 0; i < page.models.size(); ++i) page.models[i].series = static_cast<int>(i);
  return page;
}

std::string verdict_section(const PageData& page) {
  const Words& w = page.words;
  std::string out;
  for (const Json* run : page.certifies) {
    const bool pass = str(*run, "verdict") == "pass";
    out += fmt::format("<p class=\"verdict {}\">{}</p>\n<ul class=\"verdicts\">", pass ? "ok" : "bad",
                       escape(w(pass ? "verdict.pass" : "verdict.fail")));
    for (const Json& c : (*run).at("candidates")) {
      const bool ok = str(c, "verdict") == "pass";
      std::string broken;
      for (const Json& g : (*run).at("gates"))
        if (!g.at("ok").get<bool>() && str(g, "candidate") == str(c, "path")) broken += "<li>" + broken_gate(g, w) + "</li>";
      out += fmt::format("<li><b>{}</b> <span class=\"tag {}\">{}</span>{}</li>", escape(base_name(str(c, "path"))),
                         ok ? "ok" : "bad", escape(w(ok ? "pass" : "fail")), broken.empty() ? "" : "<ul>" + broken + "</ul>");
    }
    out += "</ul>\n";
    HtmlTable table(
        {w("candidate"), w("gate"), ">" + w("value"), ">" + w("bound"), ">" + w("bar"), "", ">" + w("p_break")});
    std::vector<const Json*> ordered;
    for (const bool wanted : {false, true})  // what failed comes first
      for (const Json& g : (*run).at("gates"))
        if (g.at("ok").get<bool>() == wanted) ordered.push_back(&g);
    for (const Json* gate : ordered) {
      const Json& g = *gate;
      const bool ok = g.at("ok").get<bool>();
      const std::string name = str(g, "name");
      const double p = num(g, "p_break");
      table.add({escape(base_name(str(g, "candidate"))), gate_link(name),
                 with_protocol(gate_number(name, g.at("value")), is_of_text(name) ? protocol_of(*run, w) : gate_explained(name, w.language())),
                 gate_number(name, g.at("bound")), gate_number(name, g.at("limit")),
                 fmt::format("<span class=\"tag {}\">{}</span>", ok ? "ok" : "bad", escape(w(ok ? "pass" : "fail"))),
                 std::isfinite(p) ? percent(p) : "–"});
    }
    out += "<h3>" + escape(w("gates")) + "</h3><p>" + escape(w("gates.lead")) + "</p>" + words_line(page, {"interval", "bootstrap"}) + table.html();
  }
  return out.empty() ? "" : "<section id=\"verdict\">" + out + "</section>\n";
}

std::string models_section(const PageData& page) {
  const Words& w = page.words;
  HtmlTable table({w("model"), w("type"), ">" + w("size"), ">" + w("bits"), ">" + w("share"), w("types"), w("made.how"), w("hash")});
  double base = 0;
  for (const ShownModel& m : page.models)
    if (m.is_base) base = m.size_bytes;
  for (const ShownModel& m : page.models) {
    if (m.size_bytes <= 0) continue;
    std::string hashes;
    if (m.data.contains("hashes"))
      for (const Json& h : m.data.at("hashes")) hashes += (hashes.empty() ? "" : " ") + h.get<std::string>();
    double n_weights = 0;
    std::string types;
    const Json of_types = m.data.contains("types") ? m.data.at("types") : Json::array();
    for (const Json& t : of_types) n_weights += num(t, "weights");
    for (const Json& t : of_types)
      types += (types.empty() ? "" : ", ") + str(t, "type") + " " +
               percent(page.derived(m.name + ": share of the weights in " + str(t, "type"), num(t, "weights") / n_weights));
    table.add({swatch(m) + (m.is_base ? " (" + escape(w("base")) + ")" : ""), escape(m.type),
               format_size(static_cast<uint64_t>(m.size_bytes)), sig(m.bits_per_weight),
               base > 0 ? percent(page.derived(m.name + ": size over the base's", m.size_bytes / base)) : "–",
               escape(types), m.data.contains("made") ? escape(w.all_said(m.data.at("made"))) : "", "<code>" + escape(hashes) + "</code>"});
  }
  return table.empty() ? "" : section("models", w("models"), w("models.lead"), words_line(page, {"bits_per_weight", "block", "scale", "calibration", "importance"}) + table.html());
}

std::string pareto_section(const PageData& page) {
  const Words& w = page.words;
  XyChart chart{w("pareto"), {w("bits"), false, false, {}, {}, {}}, {w("kld"), true, false, {}, {}, {}}, {}, {}, w("pareto.front")};
  HtmlTable table({w("candidate"), ">" + w("bits"), ">" + w("kld.short") + " [95 %]", ">" + w("top1"), ">" + w("ppl")});
  for (const ShownModel& m : page.models) {
    if (!has_divergence(m)) continue;
    const Json& d = m.data.at("divergence");
    const double mean = num(d, "mean"), low = d.at("ci95").at(0).get<double>(), high = d.at("ci95").at(1).get<double>();
    table.add({swatch(m), m.bits_per_weight > 0 ? sig(m.bits_per_weight) : "–",
               with_protocol(with_interval(mean, d.at("ci95")), m.protocol),
               with_protocol(percent(num(m.data, "top1_agreement")), m.protocol),
               with_protocol(sig(ppl_ratio(page, m.name, m.data), 5), m.protocol)});
    if (mean > 0 && m.bits_per_weight > 0)
      chart.series.push_back({m.name, {{m.bits_per_weight, mean, low, high, m.name}}, m.series, ChartSeries::Form::kDots, m.protocol});
  }
  if (table.empty()) return "";
  return section("pareto", w("pareto"), w("pareto.lead"), words_line(page, {"kld", "nat", "top1", "perplexity", "interval"}) + chart_figure(page.charts.add(chart)) + table.html());
}

std::string divergence_section(const PageData& page) {
  const Words& w = page.words;
  XyChart chart{w("divergence"), {w("token.kld"), true, false, {}, {}, {}}, {w("tokens.share"), false, true, 0.0, {}, {}}, {}, {}, ""};
  HtmlTable ladder({w("candidate"), w("text"), ">" + w("mean") + " [95 %]", ">" + w("median"), ">90 %", ">95 %",
                    ">99 %", ">99.9 %", ">" + w("max"), ">" + w("top1"), ">" + w("ppl")});
  for (const ShownModel& m : page.models) {
    if (!has_divergence(m)) continue;
    const auto row = [&](const std::string& name, const std::string& text, const Json& j) {
      const Json& d = j.at("divergence");
      std::vector<std::string> cells = {name, escape(text),
                                        with_protocol(with_interval(num(d, "mean"), d.at("ci95")), m.protocol)};
      for (const char* key : {"median", "p90", "p95", "p99", "p999", "max"})
        cells.push_back(with_protocol(sig(num(d, key)), m.protocol));
      cells.push_back(percent(num(j, "top1_agreement")));
      cells.push_back(sig(ppl_ratio(page, m.name + " " + text, j), 5));
      ladder.add(std::move(cells));
    };
    row(swatch(m), "", m.data);
    if (m.data.contains("by_text") && m.data.at("by_text").size() > 1)
      for (const Json& t : m.data.at("by_text")) row("", base_name(str(t, "path")), t);
    if (!m.data.contains("histogram")) continue;
    const Json& h = m.data.at("histogram");
    double total = 0;
    for (const Json& n : h.at("counts")) total += n.get<double>();
    ChartSeries c{m.name, {}, m.series, ChartSeries::Form::kLine, m.protocol};
    for (size_t i = 0; i < h.at("counts").size(); ++i) {
      const std::string bin = m.name + ": tokens' divergence, part " + std::to_string(i);
      const double middle = page.derived(bin, std::pow(10, num(h, "log10_first") + num(h, "step") * (static_cast<double>(i) + 0.5)));
      c.points.push_back({middle, page.derived(bin + ", share", h.at("counts")[i].get<double>() / total), 0, 0, ""});
    }
    chart.series.push_back(std::move(c));
  }
  if (ladder.empty()) return "";
  std::string out = chart_figure(page.charts.add(chart)) + ladder.html() + points_table(chart, w);
  for (const Json* run : page.certifies)
    if (run->contains("noise_floor"))
      out += "<p class=\"note\">" +
             fmt::format(fmt::runtime(escape(w("floor"))), sig(num((*run).at("noise_floor"), "repeat"), 3),
                         sig(num((*run).at("noise_floor"), "runtime"), 3)) +
             "</p>";
  return section("divergence", w("divergence"), w("divergence.lead"), words_line(page, {"kld", "nat", "token", "perplexity", "noise_floor"}) + out);
}

std::string layers_section(const PageData& page) {
  const Words& w = page.words;
  std::string out;
  for (const ShownModel& m : page.models) {
    if (m.is_base || !m.data.contains("weights")) continue;
    const Json& weights = m.data.at("weights");
    std::string part;
    for (const Json& line : weights.at("configuration"))
      part += "<p class=\"bad\">" + escape(w.said(line)) + "</p>";
    if (!weights.at("comparable").get<bool>()) part += "<p>" + escape(w.said(weights.at("reason"))) + "</p>";
    HtmlTable findings({w("tensor"), w("finding")});
    for (const Json& f : weights.at("findings"))
      findings.add({"<code>" + escape(str(f, "tensor")) + "</code>", escape(w.said(f.at("finding")))});
    if (!findings.empty()) part += findings.html();
    part += error_map(page, weights.at("tensors"), "rel_error");
    if (!part.empty()) out += "<h3>" + swatch(m) + "</h3>" + part;
  }
  for (const Json* q : page.quantizes) {
    const std::string map = error_map(page, (*q).at("tensors"), "rel_rmse");
    if (map.empty()) continue;
    out += "<h3>" + escape(w("quantize")) + ": " + sig(num(*q, "bits_per_weight")) + " " + escape(w("bits")) + "</h3>" +
           map;
    HtmlTable table({w("tensor"), w("type"), w("method"), ">" + w("error")});
    for (const Json& t : (*q).at("tensors"))
      table.add({"<code>" + escape(str(t, "name")) + "</code>", escape(str(t, "type")), escape(str(t, "method")),
                 sig(num(t, "rel_rmse"))});
    out += "<details><summary>" + escape(w("tensor")) + "</summary>" + table.html() + "</details>";
  }
  return out.empty() ? "" : section("layers", w("layers"), w("layers.lead"), words_line(page, {"tensor", "rel_error", "cosine", "weights", "configuration", "rope"}) + out);
}

std::string tasks_section(const PageData& page) {
  const Words& w = page.words;
  RowChart chart{w("tasks"), w("difference.axis"), w("chart.margin"), false, {}, {}};
  HtmlTable table({w("task"), w("candidate"), ">n", ">" + w("right.base"), ">" + w("right.candidate"),
                   ">" + w("difference"), ">" + w("lost"), ">" + w("gained"), ">" + w("p"), ">" + w("holm")});
  for (const ShownModel& m : page.models) {
    if (m.is_base || !m.data.contains("tasks")) continue;
    for (const Json& t : m.data.at("tasks")) {
      if (!t.contains("counts") || !t.contains("difference_ci95")) continue;
      const Json& c = t.at(str(t, "counts"));
      const double d = 100 * num(c, "difference"), low = 100 * t.at("difference_ci95").at(0).get<double>(),
                   high = 100 * t.at("difference_ci95").at(1).get<double>();
      const std::string label = str(t, "name") + ", " + m.name;
      if (t.contains("non_inferiority")) chart.margin = 100 * num(t.at("non_inferiority"), "margin");
      chart.rows.push_back({label, fmt::format("{:+.2f}", d), d, low, high, {}, "", m.protocol, m.series});
      table.add(
          {escape(str(t, "name")), swatch(m), sig(num(c, "n"), 8), percent(num(c, "base")),
           percent(num(c, "candidate")),
           with_protocol(fmt::format("{:+.2f} <span class=\"ci\">[{:.2f}, {:.2f}]</span>", d, low, high), m.protocol),
           sig(num(c, "lost")), sig(num(c, "gained")), sig(num(t, "mcnemar_p"), 3), sig(num(t, "holm_p"), 3)});
      for (const Json& g : t.at("groups"))
        table.add({"&nbsp; " + escape(str(g, "group")), "", sig(num(g, "n"), 8), percent(num(g, "base")),
                   percent(num(g, "candidate")), fmt::format("{:+.2f}", 100 * num(g, "difference")),
                   sig(num(g, "lost")), sig(num(g, "gained"))});
    }
  }
  if (table.empty()) return "";
  std::string out = chart_figure(page.charts.add(chart)) + table.html();
  for (const Json* run : page.certifies) {
    if (!run->contains("power") || (*run).at("power").empty()) continue;
    out += "<h3>" + escape(w("power")) + "</h3><ul>";
    for (const Json& line : (*run).at("power")) out += "<li>" + escape(w.said(line)) + "</li>";
    out += "</ul>";
  }
  return section("tasks", w("tasks"), w("tasks.lead"), words_line(page, {"flips", "mcnemar", "holm", "margin", "power", "interval"}) + out);
}

std::string generation_section(const PageData& page) {
  const Words& w = page.words;
  HtmlTable table({w("candidate"), ">" + w("same"), ">" + w("first_difference"), ">" + w("length_ratio"),
                   ">" + w("repetition"), ">" + w("unended")});
  std::string texts;
  for (const ShownModel& m : page.models) {
    if (m.is_base || !m.data.contains("generation")) continue;
    const Json& g = m.data.at("generation");
    table.add({swatch(m), percent(num(g, "same")), sig(num(g.at("first_difference"), "median")),
               sig(num(g, "length_ratio")),
               percent(num(g.at("repetition"), "candidate")) + " (" + escape(w("base")) + " " +
                   percent(num(g.at("repetition"), "base")) + ")",
               sig(num(g.at("unended"), "candidate")) + " (" + escape(w("base")) + " " +
                   sig(num(g.at("unended"), "base")) + ")"});
    HtmlTable worst({w("prompt"), w("base"), w("candidate")});
    for (const Json& t : g.at("worst"))
      worst.add({escape(str(t, "prompt")), escape(str(t, "base")), escape(str(t, "candidate"))});
    if (!worst.empty()) texts += "<details><summary>" + swatch(m) + "</summary>" + worst.html() + "</details>";
  }
  return table.empty() ? "" : section("generation", w("generation"), w("generation.lead"), table.html() + texts);
}

std::string worst_section(const PageData& page) {
  const Words& w = page.words;
  std::string out;
  for (const ShownModel& m : page.models) {
    if (m.is_base || !m.data.contains("worst_tokens") || m.data.at("worst_tokens").empty()) continue;
    HtmlTable table({">" + w("token.kld"), w("text"), w("after"), w("actual"), w("base.says"), w("candidate.says")});
    for (const Json& t : m.data.at("worst_tokens"))
      table.add({sig(num(t, "kld")), escape(base_name(str(t, "text"))) + " " + sig(num(t, "position"), 9),
                 "…" + escape(str(t, "before")), "<b>" + escape(str(t, "actual")) + "</b>",
                 escape(str(t.at("base"), "top")) + " " + percent(num(t.at("base"), "top_p")),
                 escape(str(t.at("candidate"), "top")) + " " + percent(num(t.at("candidate"), "top_p"))});
    out += "<details" + std::string(out.empty() ? " open" : "") + "><summary>" + swatch(m) + "</summary>" +
           table.html() + "</details>";
  }
  return section("worst", w("worst"), "", out);
}

std::string speed_section(const PageData& page) {
  const Words& w = page.words;
  RowChart decode{w("decode"), w("rate"), w("chart.machine"), true, {}, {}}, memory{w("memory"), w("memory"), w("bar"), true, {}, {}};
  HtmlTable table(
      {w("model"), ">" + w("decode") + " [" + w("chart.interval") + "]", ">" + w("chart.machine"), ">" + w("prefill"), ">" + w("memory"), ">" + w("load"), ">" + w("energy")});
  for (const ShownModel& m : page.models) {
    if (!m.speed.is_object() || !m.speed.contains("decode")) continue;
    const double rate = num(m.speed.at("decode"), "tokens_per_second"), peak = num(m.speed, "peak_rss_bytes", 0);
    const std::string how = fmt::format(fmt::runtime(w("speed.how")), sig(num(m.speed, "threads")), str(m.speed, "kernels"),
                                        str(m.speed, "activations"));
    const double limit = num(m.speed.at("limits"), "decode_tokens_per_second");
    decode.rows.push_back({m.name,
                           fmt::format("{} ({:.0f} %)", sig(rate), 100 * page.derived(m.name + ": decode over the machine's limit", rate / limit)),
                           rate, num(m.speed.at("decode"), "min", 0), num(m.speed.at("decode"), "max", 0), limit, sig(limit) + " /s", how, m.series});
    const auto most = most_memory(page, m.name);
    memory.rows.push_back({m.name, format_size(static_cast<uint64_t>(peak)), peak, 0, 0, most,
                           most ? format_size(static_cast<uint64_t>(*most)) : "", how, m.series});
    const Json energy = m.speed.contains("energy") ? m.speed.at("energy") : Json();
    const double joules = num(energy, "decode_joules_per_token");
    const Json& d = m.speed.at("decode");
    const Json range = d.contains("min") && d.contains("max") ? Json{d.at("min"), d.at("max")} : Json();
    table.add({swatch(m), with_protocol(with_interval(rate, range) + " /s", how), with_protocol(sig(limit) + " /s", how),
               with_protocol(sig(num(m.speed.at("prefill"), "tokens_per_second")) + " /s", how),
               with_protocol(format_size(static_cast<uint64_t>(peak)), how),
               with_protocol(format_duration(num(m.speed, "load_seconds", 0)), how),
               joules > 0 ? sig(joules) + " J" : energy.contains("not_measured") ? escape(w.said(energy.at("not_measured"))) : "–"});
  }
  if (table.empty()) return "";
  const std::string decode_chart = page.charts.add(decode);
  return section("speed", w("speed"), w("speed.lead"),
                 words_line(page, {"speed", "min_speedup", "max_memory"}) + "<h3>" + escape(w("decode")) + ", " + escape(w("rate")) + "</h3>" + chart_figure(decode_chart) + "<h3>" +
                     escape(w("memory")) + "</h3>" + chart_figure(page.charts.add(memory)) + table.html());
}

std::string cost_section(const PageData& page) {
  const Prices& prices = page.options->prices;
  if (!prices.any()) return "";
  const Words& w = page.words;
  HtmlTable table({w("model"), ">" + w("cost.million"), ">" + w("cost.month"), ">" + w("cost.machines"),
                   ">" + w("cost.saving"), ">" + w("cost.even"), ">" + w("cost.risk")});
  const auto money_text = [&](double v) { return prices.currency + fmt::format("{:.{}f}", v, v < 1 ? 4 : 2); };
  const auto money = [&](double v) { return escape(money_text(v)); };
  RowChart chart{w("cost.million"), w("cost.million"), "", true, {}, {}};
  std::optional<Cost> base;
  for (const ShownModel& m : page.models) {
    if (!m.speed.is_object() || !m.speed.contains("decode")) continue;
    const double joules = m.speed.contains("energy") ? num(m.speed.at("energy"), "decode_joules_per_token", 0) : 0;
    const Cost c = cost_of(prices, num(m.speed.at("decode"), "tokens_per_second"), joules);
    if (m.is_base) base = c;
    chart.rows.push_back({m.name, money_text(c.per_million), c.per_million, 0, 0, {}, "", w("cost.how"), m.series});
    page.derived(m.name + ": cost of a million tokens", c.per_million);
    if (c.per_month) page.derived(m.name + ": cost of a month", *c.per_month);
    if (c.machines) page.derived(m.name + ": machines", *c.machines);
    if (base && !m.is_base && c.per_month) page.derived(m.name + ": saved in a month", *base->per_month - *c.per_month);
    std::optional<double> even;
    if (base && !m.is_base) even = break_even_tokens(prices, *base, c);
    if (even) page.derived(m.name + ": break-even, tokens", *even);
    double risk = NAN;
    for (const Json* run : page.certifies)
      for (const Json& g : (*run).at("gates"))
        if (base_name(str(g, "candidate")) == m.name && std::isfinite(num(g, "p_break")))
          risk = std::isnan(risk) ? num(g, "p_break") : std::max(risk, num(g, "p_break"));
    table.add({swatch(m), money(c.per_million), c.per_month ? money(*c.per_month) : "–",
               c.machines ? sig(*c.machines, 3) : "–",
               base && !m.is_base && c.per_month ? money(*base->per_month - *c.per_month) : "–",
               even ? sig(*even, 3) : "–", m.is_base ? "–" : percent(risk)});
  }
  return table.empty() ? "" : section("cost", w("cost"), w("cost.lead"), chart_figure(page.charts.add(chart)) + table.html());
}

std::string how_section(const PageData& page, std::span<const Run> runs) {
  const Words& w = page.words;
  std::string out;
  for (const Json* run : page.certifies) {
    out += "<p>" + escape(protocol_of(*run, w)) + "</p>";
    HtmlTable texts({w("text"), ">" + w("tokens"), ">" + w("chunks"), w("hash")});
    for (const char* key : {"texts", "calibration_texts"})
      for (const Json& t : (*run)[key])
        texts.add({escape(str(t, "path")), sig(num(t, "tokens"), 9), sig(num(t, "chunks"), 9),
                   "<code>" + escape(str(t, "hash")) + "</code>"});
    for (const Json& t : (*run).at("tasks"))
      texts.add({escape(str(t, "path")), "", sig(num(t, "n"), 9), "<code>" + escape(str(t, "hash")) + "</code>"});
    if (!texts.empty()) out += texts.html();
    HtmlTable leak({w("candidate"), ">" + w("leakage")});
    for (const Json& c : (*run).at("candidates"))
      leak.add({escape(base_name(str(c, "path"))), percent(num(c.at("leakage"), "share"))});
    out += leak.html();
    out += stability_list((*run).at("stability"), w);
  }
  for (const Run& run : runs)
    if (run.json.contains("protocol") && !run.json.contains("candidates"))
      out += "<p>" + escape(base_name(run.path)) + ": " + escape(protocol_of(run.json, w)) + "</p>";
  return out.empty() ? "" : section("how", w("how"), "", words_line(page, {"token", "leakage", "bootstrap"}) + out);
}

}  // namespace tsubu
