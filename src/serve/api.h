// OpenAI's API, and the page's own calls, over the scheduler.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "chat/chat_template.h"
#include "serve/battles.h"
#include "serve/http.h"
#include "serve/request.h"
#include "serve/scheduler.h"
#include "serve/vote_store.h"

namespace tsubu::serve {

struct ApiModel {
  std::string name;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<chat::ChatTemplate> chat_template;
  size_t longest_token = 1;  // bytes
};

class Api {
 public:
  Api(std::vector<ApiModel>& models, Scheduler& scheduler, VoteStore& votes, Metrics& metrics, size_t context)
      : models_(models), scheduler_(scheduler), votes_(votes), metrics_(metrics), context_(context) {}
  std::vector<Route> routes();
  void begin_drain() { is_draining_ = true; }  // /health says so
  void cut() { is_cut_ = true; }               // open requests end now

 private:
  using Handler = void (Api::*)(const HttpRequest&, HttpResponse&);
  Route route(const char* method, const std::string& path, Handler handler);
  void page(const HttpRequest&, HttpResponse&);
  void health(const HttpRequest&, HttpResponse&);
  void metrics(const HttpRequest&, HttpResponse&);
  void list_models(const HttpRequest&, HttpResponse&);
  void completions(const HttpRequest&, HttpResponse&);
  void chat(const HttpRequest&, HttpResponse&);
  void score(const HttpRequest&, HttpResponse&);
  void open_blind(const HttpRequest&, HttpResponse&);
  void vote(const HttpRequest&, HttpResponse&);
  void vote_counts(const HttpRequest&, HttpResponse&);

  struct Reply;  // of one request: its jobs and what their JSON has in common
  size_t lane_of(const ApiRequest& request);
  std::vector<TokenId> prompt_tokens(const ApiRequest& request, const ApiPrompt& prompt, size_t lane) const;
  std::vector<TokenId> chat_tokens(const ApiRequest& request, JobSpec& job, size_t lane) const;
  std::shared_ptr<Reply> start(ApiRequest request);
  void check_fits(size_t n_prompt, size_t n_more) const;
  void look(const HttpRequest& request) const;  // throws when nobody waits any more, or the server must end
  void answer(const std::shared_ptr<Reply>& reply, const HttpRequest& request, HttpResponse& response);
  void stream(Reply& reply, const HttpRequest& request, const Write& write);
  Json model_json(const ApiModel& model) const;
  Json votes_json() const;

  std::vector<ApiModel>& models_;
  Scheduler& scheduler_;
  VoteStore& votes_;
  Metrics& metrics_;
  const size_t context_;
  const int64_t start_ = static_cast<int64_t>(std::time(nullptr));
  Battles battles_;
  std::atomic<bool> is_draining_{false}, is_cut_{false};
};

}  // namespace tsubu::serve
