#include "serve/text_stream.h"

#include <algorithm>

namespace tsubu::serve {

std::string TextStream::feed(std::string_view bytes) {
  if (is_stopped_) return "";
  held_ += utf8_.feed(bytes);
  return take(false);
}

std::string TextStream::finish() {
  if (is_stopped_) return "";
  held_ += utf8_.finish();
  return take(true);
}

std::string TextStream::take(bool all) {
  size_t stop = std::string::npos;
  for (const std::string& s : stops_) stop = std::min(stop, held_.find(s));
  size_t n = held_.size();
  if (stop != std::string::npos) {
    is_stopped_ = true;
    n = stop;
  } else if (!all) {
    // The longest end of the text that begins a stop string waits.
    for (const std::string& s : stops_)
      for (size_t length = std::min(s.size() - 1, held_.size()); length > 0; --length)
        if (held_.ends_with(std::string_view(s).substr(0, length))) {
          n = std::min(n, held_.size() - length);
          break;
        }
  }
  std::string out = held_.substr(0, n);
  held_.erase(0, is_stopped_ ? held_.size() : n);
  return out;
}

}  // namespace tsubu::serve
