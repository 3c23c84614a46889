// JSON as a stream of events, for headers whose objects hold a hundred thousand keys: no tree is built. Nesting is
// bounded; duplicate keys are the reader's own business.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.h"

namespace tsubu {

// What a reader of such a header implements. depth is the number of objects and arrays open around the event (a key of
// the outermost object has depth 1).
class JsonEvents {
 public:
  virtual ~JsonEvents() = default;
  virtual void key(const std::string& name, int depth) = 0;
  virtual void string(const std::string& value, int depth) = 0;
  virtual void number(uint64_t value, int depth) = 0;
  // Anything that is none of the others: null, a bool, a negative or fractional number; `what` names it.
  virtual void other(std::string_view what, int depth) = 0;
  virtual void open_object(int depth) = 0;
  virtual void close_object(int depth) = 0;
  virtual void open_array(int depth) = 0;
  virtual void close_array(int depth) = 0;
};

// Throws Error(kBadInput) with the byte offset (counted from base_offset) on bad syntax, invalid UTF-8, NUL bytes,
// nesting deeper than 64, or more bytes after the document; errors thrown by events pass through.
void parse_json_events(std::string_view text, const std::string& where, uint64_t base_offset, JsonEvents& events);

}  // namespace tsubu
