// Plain-text tables: a line of headings, then rows; columns as wide as their widest cell.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tsubu {

class Table {
 public:
  // A heading that starts with '>' is a right-aligned column (numbers).
  explicit Table(std::vector<std::string> headings);
  // Rows with fewer cells than there are columns are filled with empty ones.
  void add(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  // Every line indented by `indent` blanks, without blanks at its end.
  std::string text(size_t indent = 0) const;

 private:
  std::vector<std::string> headings_;
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
};

// Characters, not bytes (each counts as one column).
size_t display_width(std::string_view text);

}  // namespace tsubu
