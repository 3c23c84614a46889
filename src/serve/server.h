// `tsubu serve`: one or two models behind OpenAI's API and a page to compare them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/threads.h"
#include "engine/engine.h"
#include "serve/http.h"
#include "serve/scheduler.h"

namespace tsubu::serve {

struct ServerOptions {
  std::string host = "127.0.0.1";
  int port = 8080;  // 0: a free one
  std::string api_key;  // empty: none is asked for
  std::string votes_path = "tsubu-votes.sqlite3";
  double drain_seconds = 30;  // open requests get so long once the server is told to stop
  HttpLimits http;
  SchedulerOptions scheduler;
};

struct ServedModel {
  std::string name;  // in requests
  const Model* model = nullptr;
  Engine* engine = nullptr;
};

// Serves until SIGINT or SIGTERM: then no new connections, open requests are finished. models: one, or a model and its
// base. on_ready gets the port when requests are taken. Throws Error(kIo) when the address is not to be had,
// Error(kUsage) when two models have different vocabularies or one name.
void run_server(const std::vector<ServedModel>& models, const ServerOptions& options, ThreadPool& pool,
                const std::function<void(int port)>& on_ready);

// Equal, in a time that does not depend on where they differ.
bool same_secret(const std::string& a, const std::string& b);
// "localhost:8080" → "localhost", "[::1]:80" → "[::1]".
std::string host_without_port(const std::string& host);
bool is_loopback(const std::string& host);

}  // namespace tsubu::serve
