#include "report/html.h"

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

std::string HtmlTable::html() const {
  std::string out = "<div class=\"scroll\"><table><thead><tr>";
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

}  // namespace tsubu
