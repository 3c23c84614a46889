#include "serve/http.h"

#include <httplib.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <list>
#include <mutex>
#include <thread>

#include "base/error.h"

namespace tsubu::serve {
namespace {

using Clock = std::chrono::steady_clock;

Clock::time_point after(double seconds) {
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

int milliseconds_until(Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left + 1, 0, 60'000));
}

// True when one of `events` (or an error, which the next call tells) is there before the deadline.
bool wait_for(int fd, short events, Clock::time_point deadline) {
  while (true) {
    pollfd p{fd, events, 0};
    const int n = ::poll(&p, 1, milliseconds_until(deadline));
    if (n > 0) return true;
    if (n < 0 && errno != EINTR) return false;
    if (Clock::now() >= deadline) return false;
  }
}

// One request's bytes under its limits.
class Connection : public httplib::Stream {
 public:
  Connection(int fd, const HttpLimits& limits) : fd_(fd), limits_(limits) {}

  void begin_request() {
    left_ = limits_.max_head_bytes;
    deadline_ = after(limits_.head_seconds);
  }
  void begin_body() {
    // Chunked bodies have their own marks; what a handler keeps is counted again, exactly.
    left_ = limits_.max_body_bytes + limits_.max_body_bytes / 2 + 4096;
    deadline_ = after(limits_.body_seconds);
  }
  bool has_input() const { return begin_ < end_; }
  void end_after_reply() { must_close_ = true; }
  bool must_close() const { return must_close_ || is_gone(); }
  int fd() const { return fd_; }

  // Closed by the other side, for reading at least: a client that waits for its reply keeps its side open.
  bool is_gone() const {
    if (failed_) return true;
    pollfd p{fd_, POLLIN | POLLRDHUP, 0};
    if (::poll(&p, 1, 0) <= 0) return false;
    return (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
  }

  bool is_readable() const override { return !failed_; }
  bool is_writable() const override { return !failed_; }

  ssize_t read(char* out, size_t size) override {
    if (begin_ == end_ && !fill()) return -1;
    const size_t n = std::min({size, end_ - begin_, left_});
    if (n == 0 && size > 0) {  // more than the limit: a reply may still be written, but nothing is read
      must_close_ = true;
      return -1;
    }
    std::memcpy(out, buffer_.data() + begin_, n);
    begin_ += n;
    left_ -= n;
    return static_cast<ssize_t>(n);
  }

  ssize_t write(const char* data, size_t size) override {
    size_t done = 0;
    const auto deadline = after(limits_.write_seconds);
    while (done < size && !failed_) {
      const ssize_t n = ::send(fd_, data + done, size - done, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n > 0) {
        done += static_cast<size_t>(n);
      } else if (n < 0 && errno == EINTR) {
        continue;
      } else if (n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK) || !wait_for(fd_, POLLOUT, deadline)) {
        failed_ = true;
      }
    }
    return failed_ ? -1 : static_cast<ssize_t>(size);
  }

  void get_remote_ip_and_port(std::string& ip, int& port) const override {
    ip = "";
    port = 0;
  }
  void get_local_ip_and_port(std::string& ip, int& port) const override {
    ip = "";
    port = 0;
  }
  socket_t socket() const override { return fd_; }

 private:
  bool fill() {
    while (!failed_) {
      if (Clock::now() >= deadline_ || !wait_for(fd_, POLLIN, deadline_)) break;
      const ssize_t n = ::recv(fd_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
      if (n > 0) {
        begin_ = 0;
        end_ = static_cast<size_t>(n);
        return true;
      }
      if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)) continue;
      break;
    }
    failed_ = true;
    return false;
  }

  const int fd_;
  const HttpLimits& limits_;
  size_t left_ = 0, begin_ = 0, end_ = 0;
  Clock::time_point deadline_;
  bool failed_ = false, must_close_ = false;
  std::array<char, 16384> buffer_;
};

thread_local Connection* t_connection = nullptr;

// A thread for each connection, kept for the next one.
class ConnectionThreads : public httplib::TaskQueue {
 public:
  explicit ConnectionThreads(size_t most) : most_(most) {}
  void enqueue(std::function<void()> task) override {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    if (tasks_.size() > n_idle_ && threads_.size() < most_) threads_.emplace_back([this] { work(); });
    wake_.notify_one();
  }
  void shutdown() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
      wake_.notify_all();
    }
    for (std::thread& t : threads_) t.join();
    threads_.clear();
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      ++n_idle_;
      wake_.wait(lock, [&] { return stop_ || !tasks_.empty(); });
      --n_idle_;
      if (tasks_.empty()) return;
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::list<std::function<void()>> tasks_;
  std::list<std::thread> threads_;
  const size_t most_;
  size_t n_idle_ = 0;
  bool stop_ = false;
};

// The library takes paths for regular expressions.
std::string literal(const std::string& path) {
  std::string out;
  for (const char c : path) {
    if (std::string_view(R"(.^$|()[]{}*+?\\)").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

constexpr std::string_view kRefusal =
    "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n"
    "Content-Length: 105\r\n\r\n"
    R"({"error":{"message":"too many connections: try again","type":"rate_limit_error","param":null,"code":429}})";

}  // namespace

struct HttpServer::Impl : httplib::Server {
  Impl(std::vector<Route> r, const HttpLimits& l, Check c, ErrorReply e)
      : routes(std::move(r)), limits(l), check(std::move(c)), error(std::move(e)) {
    new_task_queue = [this] { return new ConnectionThreads(limits.max_connections + 8); };
    set_payload_max_length(limits.max_body_bytes);
    set_keep_alive_max_count(1'000'000);
    set_keep_alive_timeout(static_cast<time_t>(limits.idle_seconds));  // for the header
    set_tcp_nodelay(true);
    // Not the library's SO_REUSEPORT, by which two servers may share a port unnoticed.
    set_socket_options([](socket_t fd) {
      const int yes = 1;
      ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    set_pre_routing_handler([this](const httplib::Request& q, httplib::Response& p) { return before(q, p); });
    set_error_handler([this](const httplib::Request&, httplib::Response& p) {
      if (p.body.empty() && p.status >= 400) p.set_content(error(p.status, ""), "application/json");
    });
    for (const Route& route : routes) {
      if (route.method == "GET")
        Get(literal(route.path), [this, &route](const httplib::Request& q, httplib::Response& p) { answer(route, q, "", p); });
      else
        Post(literal(route.path), [this, &route](const httplib::Request& q, httplib::Response& p, const httplib::ContentReader& read) {
          std::string body;
          bool too_large = false;
          const bool whole = read([&](const char* data, size_t n) {
            too_large = n > limits.max_body_bytes - body.size();
            if (!too_large) body.append(data, n);
            return !too_large;
          });
          if (!whole) end_connection(p);
          if (too_large || p.status == 413) return reply(p, 413, "the body has more bytes than this server takes");
          if (!whole) return reply(p, 400, "the body did not arrive whole, or not in time");
          answer(route, q, std::move(body), p);
        });
    }
  }

  void reply(httplib::Response& p, int status, const std::string& message) const {
    p.status = status;
    p.set_content(error(status, message), "application/json");
  }

  static void end_connection(httplib::Response& p) {
    p.set_header("Connection", "close");
    if (t_connection) t_connection->end_after_reply();
  }

  HttpRequest request_of(const httplib::Request& q, std::string body) const {
    HttpRequest request{q.method, q.path, std::move(body), {}, {}};
    request.header = [&q](const std::string& name) { return q.get_header_value(name.c_str()); };
    request.client_is_gone = [connection = t_connection] { return connection && connection->is_gone(); };
    return request;
  }

  // Routing by the list, so that no request meets the library's regular expressions but of these paths.
  HandlerResponse before(const httplib::Request& q, httplib::Response& p) {
    bool known_path = false, known_method = false;
    std::string allowed;
    for (const Route& r : routes) {
      if (r.path != q.path) continue;
      known_path = true;
      known_method |= r.method == q.method || (r.method == "GET" && q.method == "HEAD");
      allowed += (allowed.empty() ? "" : ", ") + r.method;
    }
    HttpResponse response;
    if (known_path && known_method) {
      const bool has_body = q.method == "POST";
      if (check(request_of(q, ""), response)) {
        const std::string type = q.get_header_value("Content-Type");
        if (!has_body || type.substr(0, type.find(';')) == "application/json") return HandlerResponse::Unhandled;
        reply(p, 415, "expected a body of Content-Type application/json");
      } else {
        write(response, p);
      }
    } else {
      reply(p, known_path ? 405 : 404,
            known_path ? "this path is for " + allowed : "there is nothing at this path");
      if (known_path) p.set_header("Allow", allowed);
    }
    // A body that nobody read would be taken for the next request.
    if (q.has_header("Content-Length") || q.has_header("Transfer-Encoding")) end_connection(p);
    return HandlerResponse::Handled;
  }

  void answer(const Route& route, const httplib::Request& q, std::string body, httplib::Response& p) const {
    HttpResponse response;
    try {
      route.handler(request_of(q, std::move(body)), response);
    } catch (const std::exception& e) {
      return reply(p, 500, e.what());
    }
    write(response, p);
  }

  static void write(HttpResponse& response, httplib::Response& p) {
    p.status = response.status;
    for (const auto& [name, value] : response.headers) p.set_header(name.c_str(), value);
    if (!response.stream) return p.set_content(response.body, response.type.c_str());
    p.set_chunked_content_provider(response.type.c_str(), [stream = response.stream](size_t, httplib::DataSink& sink) {
      bool open = true;
      stream([&](std::string_view text) { return open = open && sink.write(text.data(), text.size()); });
      if (open) sink.done();
      return open;
    });
  }

  bool process_and_close_socket(socket_t fd) override {
    const size_t n = ++n_open;
    if (n > limits.max_connections) {
      ++n_refused;
      (void)!::send(fd, kRefusal.data(), kRefusal.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    } else {
      serve(fd);
    }
    ::shutdown(fd, SHUT_WR);
    drain(fd, n > limits.max_connections ? 0.0 : 0.5);
    ::close(fd);
    --n_open;
    return true;
  }

  // What the client still sends would make the kernel throw away a reply that it has not read.
  static void drain(int fd, double seconds) {
    const auto deadline = after(seconds);
    char rest[4096];
    size_t left = 1 << 20;
    while (seconds > 0 && wait_for(fd, POLLIN, deadline) && left > 0) {
      const ssize_t n = ::recv(fd, rest, sizeof rest, MSG_DONTWAIT);
      if (n <= 0) break;
      left -= std::min(left, static_cast<size_t>(n));
    }
  }

  void serve(int fd) {
    Connection connection(fd, limits);
    t_connection = &connection;
    bool closed = false;
    while (!closed && wait_for_request(connection)) {
      connection.begin_request();
      bool is_request = false;  // else its end is unknown, and so is where the next one begins
      const auto setup = [&](httplib::Request& q) {
        is_request = true;
        connection.begin_body();
        q.ranges.clear();
        q.headers.erase("Range");
        q.headers.erase("Accept-Encoding");
      };
      if (!process_request(connection, is_stopping, closed, setup) || !is_request || connection.must_close()) break;
    }
    t_connection = nullptr;
  }

  bool wait_for_request(const Connection& connection) const {
    if (connection.has_input()) return true;
    const auto deadline = after(limits.idle_seconds);
    while (!is_stopping && Clock::now() < deadline) {
      if (wait_for(connection.fd(), POLLIN, std::min(deadline, after(0.1)))) return true;
    }
    return false;
  }

  const std::vector<Route> routes;
  const HttpLimits limits;
  const Check check;
  const ErrorReply error;
  std::atomic<size_t> n_open{0}, n_refused{0};
  std::atomic<bool> is_stopping{false}, has_run{false};

  void listen_longer() const { ::listen(svr_sock_, 1024); }
};

HttpServer::HttpServer(std::vector<Route> routes, const HttpLimits& limits, Check check, ErrorReply error)
    : impl_(std::make_unique<Impl>(std::move(routes), limits, std::move(check), std::move(error))) {}
HttpServer::~HttpServer() = default;

int HttpServer::bind(const std::string& host, int port) {
  errno = 0;
  const int bound = port == 0 ? impl_->bind_to_any_port(host) : impl_->bind_to_port(host, port) ? port : -1;
  if (bound <= 0)
    fail(ExitCode::kIo, "{}:{}: cannot listen: {}: choose another --port or --host", host, port,
         errno ? std::strerror(errno) : "no such address");
  impl_->listen_longer();  // the library asks for a queue of 5
  return bound;
}

void HttpServer::run() {
  if (!impl_->is_stopping) impl_->listen_after_bind();
  impl_->has_run = true;
}

void HttpServer::stop() {
  // The library's stop() takes a server that runs, once.
  if (impl_->is_stopping.exchange(true)) return;
  while (!impl_->is_running() && !impl_->has_run) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  if (!impl_->has_run) impl_->stop();
}

size_t HttpServer::n_connections() const { return impl_->n_open; }
size_t HttpServer::n_refused() const { return impl_->n_refused; }

}  // namespace tsubu::serve
