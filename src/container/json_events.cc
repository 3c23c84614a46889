#include "container/json_events.h"

#include "base/error.h"

namespace tsubu {
namespace {

constexpr int kMaxDepth = 64;

class Handler final : public nlohmann::json_sax<nlohmann::json> {
 public:
  Handler(const std::string& where, uint64_t base_offset, JsonEvents& events)
      : where_(where), base_offset_(base_offset), events_(events) {}

  bool null() override { return other("null"); }
  bool boolean(bool) override { return other("a bool"); }
  bool number_integer(number_integer_t) override { return other("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return other("a fractional or huge number"); }
  bool binary(binary_t&) override { return other("binary data"); }
  bool number_unsigned(number_unsigned_t value) override {
    events_.number(value, depth_);
    return true;
  }
  bool string(string_t& value) override {
    events_.string(value, depth_);
    return true;
  }
  bool key(string_t& name) override {
    events_.key(name, depth_);
    return true;
  }
  bool start_object(std::size_t) override {
    events_.open_object(depth_);
    return deeper();
  }
  bool end_object() override {
    events_.close_object(--depth_);
    return true;
  }
  bool start_array(std::size_t) override {
    events_.open_array(depth_);
    return deeper();
  }
  bool end_array() override {
    events_.close_array(--depth_);
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& e) override {
    fail(ExitCode::kBadInput, "{}@{:#x}: expected valid JSON, found otherwise: {}", where_,
         base_offset_ + (position > 0 ? position - 1 : 0), e.what());
  }

 private:
  bool other(std::string_view what) {
    events_.other(what, depth_);
    return true;
  }
  bool deeper() {
    if (++depth_ > kMaxDepth)
      fail(ExitCode::kBadInput, "{}: expected JSON nested at most {} deep, found more", where_, kMaxDepth);
    return true;
  }

  const std::string& where_;
  uint64_t base_offset_;
  JsonEvents& events_;
  int depth_ = 0;
};

}  // namespace

void parse_json_events(std::string_view text, const std::string& where, uint64_t base_offset, JsonEvents& events) {
  // The library takes a NUL for the end of its input, which would hide whatever follows.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos)
    fail(ExitCode::kBadInput, "{}@{:#x}: expected JSON text, found a NUL byte", where, base_offset + nul);
  Handler handler(where, base_offset, events);
  nlohmann::json::sax_parse(text.begin(), text.end(), &handler);
}

}  // namespace tsubu
