// HTTP/1.1 for the server: cpp-httplib behind a small interface, with limits that hold against slow, endless and
// malformed requests. The one place that knows the library.
// A connection has a thread of its own; there are at most `max_connections`, others are told 429. A request's head has
// `head_seconds` and `max_head_bytes`, its body `body_seconds` and `max_body_bytes`; a reply that the client does not
// take for `write_seconds` ends the connection.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tsubu::serve {

struct HttpLimits {
  size_t max_connections = 512;
  size_t max_head_bytes = 64 << 10, max_body_bytes = 4 << 20;
  double head_seconds = 10, body_seconds = 30, write_seconds = 20, idle_seconds = 60;
};

struct HttpRequest {
  std::string method, path, body;
  std::function<std::string(const std::string& name)> header;  // "" when it is not there
  std::function<bool()> client_is_gone;
};

// Takes text of a reply that is written bit by bit; false: the client is gone.
using Write = std::function<bool(std::string_view)>;

struct HttpResponse {
  int status = 200;
  std::string type = "application/json", body;
  std::vector<std::pair<std::string, std::string>> headers;
  std::function<void(const Write&)> stream;  // instead of a body: called once, writes the reply
};

struct Route {
  std::string method, path;
  std::function<void(const HttpRequest&, HttpResponse&)> handler;  // an Error that it throws becomes a reply
};

class HttpServer {
 public:
  // check: before a request's body is read; true when it may go on, else it has written the response.
  using Check = std::function<bool(const HttpRequest&, HttpResponse&)>;
  // error: the reply for a status without a handler's own (404, 405, 400, 413, 415, 500).
  using ErrorReply = std::function<std::string(int status, const std::string& message)>;
  HttpServer(std::vector<Route> routes, const HttpLimits& limits, Check check, ErrorReply error);
  ~HttpServer();
  // port 0: a free one. Returns the port. Throws Error(kIo) when the address is not to be had.
  int bind(const std::string& host, int port);
  void run();   // until stop(), then until the open requests are done
  void stop();  // from any thread: no new connections; idle ones end
  size_t n_connections() const;
  size_t n_refused() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tsubu::serve
