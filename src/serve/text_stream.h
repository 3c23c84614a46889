// The text of a reply as its tokens come: whole characters only, and nothing that a stop string may still take away.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/utf8_stream.h"

namespace tsubu::serve {

class TextStream {
 public:
  // stops: the text ends before the first of these to appear; they may lie across tokens.
  explicit TextStream(std::vector<std::string> stops) : stops_(std::move(stops)) {}
  // Text that is certain after these bytes. After a stop: what stands before it, then nothing more.
  std::string feed(std::string_view bytes);
  std::string finish();
  bool is_stopped() const { return is_stopped_; }

 private:
  std::string take(bool all);
  const std::vector<std::string> stops_;
  Utf8Stream utf8_;
  std::string held_;
  bool is_stopped_ = false;
};

}  // namespace tsubu::serve
