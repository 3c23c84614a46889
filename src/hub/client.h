// Requests to the hub: its token, its redirects, its errors, and trying again when a connection breaks.
#pragma once

#include <functional>
#include <string>

#include "base/json.h"
#include "hub/environment.h"
#include "hub/http.h"

namespace tsubu {

class HubClient {
 public:
  // Throws Error(kIo) when the environment says offline.
  explicit HubClient(const HubEnvironment& environment);

  // A JSON document of the hub's API; path starts with "/api/". subject: what a message calls it ("org/name").
  // Redirects are followed within the hub only (renamed models). Throws Error: kIo (not there, not allowed, unreachable),
  // kBadInput (no JSON).
  Json get_json(const std::string& path, const std::string& subject);

  // A small file (at most 64 MiB) as text; path as of file_path().
  std::string get_text(const std::string& path, const std::string& subject);

  // The head of a file's own answer, without following it to where its bytes lie.
  FetchResponse head_file(const std::string& path, const std::string& subject);

  // A file's bytes from `offset` on, to the sink, by way of at most 5 redirects; the token goes to the hub's own origin and
  // nowhere else. on_hub: sees the hub's own answer before any byte. One try: throws TransportError when the connection
  // breaks, Error as get_json.
  void get_file(const std::string& path, const std::string& subject, uint64_t offset,
                const std::function<void(const FetchResponse&)>& on_hub,
                std::function<void(const FetchResponse&, std::span<const std::byte>)> sink);

  // Waits before try number n (from 1) after a failure; says why. Throws when interrupted, or when there were too many.
  void wait_to_retry(int n, const Error& error);

  const HubEnvironment& environment() const { return environment_; }
  int max_tries() const { return 5; }

 private:
  FetchResponse follow(FetchRequest request, const std::string& subject, bool leave_hub,
                      const std::function<void(const FetchResponse&)>& on_hub);
  FetchResponse with_retries(const std::function<FetchResponse()>& attempt);
  [[noreturn]] void fail_status(const FetchResponse& response, const std::string& subject, const std::string& url) const;

  HubEnvironment environment_;
  std::string origin_;
  HttpClient http_;
};

// The server asks for patience (429, 5xx): try again after so many seconds.
class BusyError : public TransportError {
 public:
  BusyError(const std::string& message, double seconds) : TransportError(message, true), wait_seconds(seconds) {}
  double wait_seconds;  // < 0: not said
};

}  // namespace tsubu
