// What the words of the page mean: the types that the models are stored in, each on a row of real weights as a picture, and
// the measures. From the lists of `tsubu explain`.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "page/html.h"
#include "report/explain.h"
#include "report/page.h"

namespace tsubu {
namespace {

constexpr size_t kMostTypes = 6, kDrawn = 64;  // types explained; weights of a picture

// The main types of the models and those of files that were made, as they come.
std::vector<const TypeInfo*> types_of(const PageData& page) {
  std::vector<const TypeInfo*> found;
  const auto add = [&](const std::string& name) {
    const TypeInfo* type = find_type(name);
    if (type && found.size() < kMostTypes && std::find(found.begin(), found.end(), type) == found.end()) found.push_back(type);
  };
  for (const ShownModel& m : page.models) add(m.type);
  for (const Json* q : page.quantizes)
    for (const Json& t : q->at("tensors"))
      if (t.contains("type") && t.at("type").is_string()) add(t.at("type").get<std::string>());
  return found;
}

std::string paragraphs(const std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    if (end > at) out += "<p>" + escape(text.substr(at, end - at)) + "</p>";
    at = end + 1;
  }
  return out;
}

std::string glossary(std::span<const MetricWords> words, bool japanese) {
  std::string out;
  for (const MetricWords& m : words)
    out += fmt::format("<dt id=\"word-{}\"><code>{}</code></dt><dd>{}</dd>", escape(m.name), escape(m.name), escape(japanese ? m.japanese : m.english));
  return "<dl>" + out + "</dl>";
}

// Of the three lists; nullptr: not among them.
const MetricWords* find_words(std::string_view name) {
  for (const auto& list : {metric_words(), term_words(), gate_words()})
    for (const MetricWords& m : list)
      if (m.name == name) return &m;
  return nullptr;
}

}  // namespace

std::string words_line(const PageData& page, std::initializer_list<std::string_view> names) {
  std::string out;
  for (const std::string_view name : names)
    out += fmt::format("{} <a href=\"#word-{}\">{}</a>", out.empty() ? "" : " ·", escape(name), escape(name));
  return "<p class=\"note words\">" + escape(page.words("explained")) + out + "</p>\n";
}

std::string gate_link(const std::string& name) {
  const std::string code = "<code>" + escape(name) + "</code>";
  return find_words(name) ? "<a href=\"#word-" + escape(name) + "\">" + code + "</a>" : code;
}

std::string gate_explained(const std::string& name, Language language) {
  const MetricWords* words = find_words(name);
  return words ? std::string(language == Language::kJapanese ? words->japanese : words->english) : "";
}

Json explained_rows(const PageData& page) {
  const ExampleRow row = built_in_row();
  Json list = Json::array();
  for (const TypeInfo* type : types_of(page)) {
    if (!type->encode || row.values.size() % type->block_len != 0) continue;
    const std::vector<float> stored = stored_as(row.values, *type);
    Json item = {{"type", type->name},
                 {"block_weights", type->block_len},
                 {"block_bytes", type->block_bytes},
                 {"bits_per_weight", type->bits_per_weight()},
                 {"row", row.source},
                 {"drawn", kDrawn},
                 {"rel_error", relative_error(row.values, stored)},
                 {"weights", Json::array()}};
    for (size_t i = 0; i < kDrawn; ++i) item["weights"].push_back({row.values[i], stored[i]});
    list.push_back(std::move(item));
  }
  return list;
}

std::string explain_section(const PageData& page, const Json& rows) {
  const Words& w = page.words;
  const bool japanese = w.language() == Language::kJapanese;
  std::string out;
  for (const TypeInfo* type : types_of(page)) {
    out += "<h3>" + std::string(escape(type->name)) + "</h3>" + paragraphs(describe_type(*type, w.language()));
    const auto row = std::find_if(rows.begin(), rows.end(), [&](const Json& r) { return r.at("type").get<std::string>() == type->name; });
    if (row == rows.end() || !type->is_quantized) continue;
    std::vector<double> before, after;
    for (const Json& pair : row->at("weights")) {
      before.push_back(pair.at(0).get<double>());
      after.push_back(pair.at(1).get<double>());
    }
    const std::string told = fmt::format(fmt::runtime(w("explain.row")), before.size(), row->at("row").get<std::string>(),
                                         fmt::format("{:.2f}", 100 * row->at("rel_error").get<double>()));
    HtmlTable table({">" + w("explain.before"), ">" + w("explain.after")});
    for (size_t i = 0; i < before.size(); ++i) table.add({short_number(before[i]), short_number(after[i])});
    const PairChart chart{std::string(type->name), w("explain.before"), w("explain.before"), w("explain.after"), told, std::move(before), std::move(after)};
    out += chart_figure(page.charts.add(chart)) + "<p class=\"note\">" + escape(told) + "</p><details><summary>" + escape(w("numbers")) +
           "</summary>" + table.html() + "</details>";
  }
  if (page.models.empty() && out.empty()) return "";
  const auto part = [&](const char* title, std::span<const MetricWords> words) { out += "<h3>" + escape(w(title)) + "</h3>" + glossary(words, japanese); };
  part("explain.measures", metric_words());
  part("gates.words", gate_words());
  part("explain.terms", term_words());
  return fmt::format("<section id=\"explain\"><h2>{}</h2>\n<p>{}</p>\n{}</section>\n", escape(w("explain")), escape(w("explain.lead")), out);
}

}  // namespace tsubu
