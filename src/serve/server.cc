#include "serve/server.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/progress.h"
#include "serve/api.h"

namespace tsubu::serve {
namespace {

int g_signal_pipe = -1;

void on_signal(int signal) {
  const int saved = errno;
  const char byte = static_cast<char>(signal);
  (void)!::write(g_signal_pipe, &byte, 1);
  errno = saved;
}

// SIGINT and SIGTERM as readable bytes while it lives; a second one ends the process as it always does.
class Signals {
 public:
  Signals() {
    int ends[2];
    if (::pipe(ends) != 0) fail(ExitCode::kIo, "serve: no pipe for signals");
    read_ = ends[0];
    write_ = g_signal_pipe = ends[1];
    struct sigaction action {};
    action.sa_handler = on_signal;
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGINT, &action, &old_[0]);
    ::sigaction(SIGTERM, &action, &old_[1]);
  }
  ~Signals() {
    ::sigaction(SIGINT, &old_[0], nullptr);
    ::sigaction(SIGTERM, &old_[1], nullptr);
    ::close(read_);
    ::close(write_);
  }
  // True when one came.
  bool wait(int milliseconds) const {
    pollfd p{read_, POLLIN, 0};
    return ::poll(&p, 1, milliseconds) > 0;
  }

 private:
  int read_ = -1, write_ = -1;
  struct sigaction old_[2];
};

std::string token_text(const Vocabulary& v, int32_t id) { return id >= 0 && static_cast<size_t>(id) < v.tokens.size() ? v.tokens[static_cast<size_t>(id)] : ""; }

ApiModel api_model(const ServedModel& served) {
  ApiModel m;
  m.name = served.name;
  m.tokenizer = served.model->make_tokenizer();
  const Vocabulary& v = served.model->vocabulary();
  m.chat_template = std::make_unique<chat::ChatTemplate>(v.chat_template, token_text(v, v.bos), token_text(v, v.eos));
  for (const std::string& t : v.tokens) m.longest_token = std::max(m.longest_token, t.size());
  return m;
}

}  // namespace

bool same_secret(const std::string& a, const std::string& b) {
  size_t differs = a.size() ^ b.size();
  for (size_t i = 0; i < a.size() && !b.empty(); ++i) differs |= static_cast<size_t>(a[i] ^ b[i % b.size()]);
  return differs == 0;
}

std::string host_without_port(const std::string& host) {
  const size_t colon = host.starts_with('[') ? host.find(':', host.find(']') == std::string::npos ? 0 : host.find(']')) : host.rfind(':');
  return host.substr(0, colon);
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host == "[::1]" ||
         (host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string::npos);
}

void run_server(const std::vector<ServedModel>& served, const ServerOptions& options, ThreadPool& pool,
                const std::function<void(int port)>& on_ready) {
  std::vector<ApiModel> models;
  std::vector<LaneModel> lanes;
  for (const ServedModel& s : served) models.push_back(api_model(s));
  for (size_t i = 0; i < served.size(); ++i) lanes.push_back({served[i].name, served[i].engine, models[i].tokenizer.get()});
  if (served.size() == 2) {
    if (served[0].name == served[1].name) fail(ExitCode::kUsage, "serve: both models would be called '{}': give one an --alias", served[0].name);
    if (served[0].model->vocabulary().tokens != served[1].model->vocabulary().tokens)
      fail(ExitCode::kUsage, "serve: {} and {} have different vocabularies: their tokens cannot be compared", served[0].model->path(),
           served[1].model->path());
  }
  Metrics metrics;
  VoteStore votes(options.votes_path);
  const Signals signals;
  Scheduler scheduler(lanes, options.scheduler, pool, metrics);
  Api api(models, scheduler, votes, metrics, options.scheduler.context);

  const bool only_local = is_loopback(options.host);
  HttpServer* server = nullptr;
  const auto check = [&](const HttpRequest& request, HttpResponse& response) {
    const auto refuse = [&](int status, const std::string& message) {
      response.status = status;
      response.body = error_body(status, message);
      metrics.add(Metric::kRequests, 1, Metrics::label("path", request.path) + "," + Metrics::label("status", std::to_string(status)));
      return false;
    };
    metrics.set(Metric::kConnections, static_cast<double>(server->n_connections()));
    metrics.set(Metric::kConnectionsRefused, static_cast<double>(server->n_refused()));
    // A page of somebody else must not reach a server on this machine under a name of its own.
    const std::string host = host_without_port(request.header("Host"));
    if (only_local && !host.empty() && !is_loopback(host) && host != options.host)
      return refuse(403, "this server answers to the names of this machine only");
    if (options.api_key.empty() || request.path == "/" || request.path == "/health") return true;
    const std::string given = request.header("Authorization");
    constexpr std::string_view kBearer = "Bearer ";
    if (given.starts_with(kBearer) && same_secret(options.api_key, given.substr(kBearer.size()))) return true;
    return refuse(401, "a valid API key is needed: Authorization: Bearer KEY");
  };
  HttpServer http(api.routes(), options.http, check, [](int status, const std::string& message) { return error_body(status, message); });
  server = &http;
  const int port = http.bind(options.host, options.port);
  on_ready(port);

  std::atomic<bool> is_over{false};
  std::thread watcher([&] {
    while (!signals.wait(100))
      if (is_over) return;
    note("stopping: open requests are finished first; a second signal ends at once");
    api.begin_drain();
    http.stop();
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(options.drain_seconds);
    while (!is_over && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    api.cut();
  });
  http.run();
  is_over = true;
  watcher.join();
}

}  // namespace tsubu::serve
