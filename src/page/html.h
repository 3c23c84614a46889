// Pieces of HTML as text. Everything that comes from data goes through escape().
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tsubu {

// &, <, >, quotes; bytes that are no UTF-8 and control characters become U+FFFD.
std::string escape(std::string_view text);

// A table of cells that are HTML already; a heading that starts with '>' is a column of numbers.
class HtmlTable {
 public:
  explicit HtmlTable(std::vector<std::string> headings) : headings_(std::move(headings)) {}
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  bool empty() const { return rows_.empty(); }
  // protocol: how all of its numbers were measured; shown when one points at the table, taps or focuses it.
  std::string html(std::string_view protocol = "") const;

 private:
  std::vector<std::string> headings_;
  std::vector<std::vector<std::string>> rows_;
};

// A table of plain text: the first column is names, the others numbers, all measured in one way. Empty without rows.
std::string text_table(const std::vector<std::string>& headings, const std::vector<std::vector<std::string>>& rows,
                       const std::string& protocol = "");
std::string heading(std::string_view text);  // of a part of the page

// A number with how it was measured, shown when one points at it, and at the foot of the window when one taps or focuses it.
std::string with_protocol(std::string_view number, std::string_view protocol);

// Up to three significant digits: "0.00123" → "1.23e-3" where that is shorter.
std::string short_number(double value);

}  // namespace tsubu
