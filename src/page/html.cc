#include "page/html.h"

#include <fmt/format.h>

#include <cmath>

#include "text/utf8.h"

namespace tsubu {

std::string escape(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t n = utf8_char_length(text, at);
    const char c = text[at];
    if (n == 0 || (n == 1 && static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t')) {
      out += "\xEF\xBF\xBD";
      at += 1;
      continue;
    }
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\'')
      out += "&#39;";
    else
      out += text.substr(at, n);
    at += n;
  }
  return out;
}

std::string HtmlTable::html(std::string_view protocol) const {
  std::string out = protocol.empty() ? "<div class=\"scroll\">" : "<div class=\"scroll how\" tabindex=\"0\" title=\"" + escape(protocol) + "\">";
  out += "<table><thead><tr>";
  std::vector<bool> right;
  for (const std::string& h : headings_) {
    right.push_back(h.starts_with('>'));
    out += std::string(right.back() ? "<th class=\"n\">" : "<th>") + escape(right.back() ? h.substr(1) : h) + "</th>";
  }
  out += "</tr></thead><tbody>";
  for (const auto& row : rows_) {
    out += "<tr>";
    for (size_t i = 0; i < headings_.size(); ++i)
      out += std::string(right[i] ? "<td class=\"n\">" : "<td>") + (i < row.size() ? row[i] : "") + "</td>";
    out += "</tr>";
  }
  return out + "</tbody></table></div>\n";
}

std::string with_protocol(std::string_view number, std::string_view protocol) {
  if (protocol.empty()) return std::string(number);
  return "<span class=\"v\" tabindex=\"0\" title=\"" + escape(protocol) + "\">" + std::string(number) + "</span>";
}

std::string text_table(const std::vector<std::string>& headings, const std::vector<std::vector<std::string>>& rows,
                       const std::string& protocol) {
  if (rows.empty()) return "";
  std::vector<std::string> marked;
  for (const std::string& h : headings) marked.push_back((marked.empty() ? "" : ">") + h);
  HtmlTable table(std::move(marked));
  for (const auto& row : rows) {
    std::vector<std::string> cells;
    for (const std::string& cell : row) cells.push_back(escape(cell));
    table.add(std::move(cells));
  }
  return table.html(protocol);
}

std::string heading(std::string_view text) { return "<h2>" + escape(text) + "</h2>\n"; }

std::string short_number(double v) {
  if (!std::isfinite(v)) return "–";
  if (v != 0 && (std::abs(v) < 1e-3 || std::abs(v) >= 1e6)) {
    std::string text = fmt::format("{:.2e}", v);
    const size_t e = text.find('e');
    std::string mantissa = text.substr(0, e);
    while (mantissa.find('.') != std::string::npos && (mantissa.back() == '0' || mantissa.back() == '.')) {
      const bool dot = mantissa.back() == '.';
      mantissa.pop_back();
      if (dot) break;
    }
    return fmt::format("{}e{}", mantissa, std::stoi(text.substr(e + 1)));
  }
  return fmt::format("{:.3g}", v);
}

}  // namespace tsubu
