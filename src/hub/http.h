// HTTP by libcurl, which nobody else sees: one request at a time, redirects left to the caller, bodies bounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace tsubu {

struct FetchResponse {
  int status = 0;
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case, in the server's order
  std::string body;                                          // what went to no sink

  // The value of the last header of that name; empty: not there.
  std::string_view header(std::string_view lower_case_name) const;
  bool is_redirect() const { return status == 301 || status == 302 || status == 303 || status == 307 || status == 308; }
};

struct FetchRequest {
  std::string url;
  std::vector<std::string> headers;  // "Name: value"
  bool head = false;                 // the headers alone
  uint64_t max_body = uint64_t{64} << 20;  // of `body`, bytes
  // Takes the body of a 200 or 206 as it comes; an exception of its ends the request and is thrown on.
  std::function<void(const FetchResponse& so_far, std::span<const std::byte> bytes)> sink;
};

// No answer, or one that broke off. is_transient: trying again may help.
class TransportError : public Error {
 public:
  TransportError(const std::string& message, bool transient) : Error(ExitCode::kIo, message), is_transient(transient) {}
  bool is_transient;
};

// Keeps connections open between requests. One thread.
class HttpClient {
 public:
  // stall_seconds: a transfer that brings nothing for so long has broken.
  explicit HttpClient(int stall_seconds = 30);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Throws TransportError, Error(kInterrupted), Error(kBadInput) for a body above max_body.
  FetchResponse get(const FetchRequest& request);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Where a redirect leads: `location` may be relative to `base`. Throws Error(kBadInput) unless it is http or https.
std::string resolve_url(const std::string& base, const std::string& location);
// "https://host:443" in lower case: what may share credentials. Throws Error(kBadInput) unless it is http or https.
std::string origin_of(const std::string& url);
std::string host_of(const std::string& url);
// Without what follows '?': signed addresses keep their secrets there.
std::string shown_url(std::string_view url);
// Percent-encodes all but letters, digits and "-._~" (and '/' when it is kept).
std::string percent_encode(std::string_view text, bool keep_slash);

}  // namespace tsubu
