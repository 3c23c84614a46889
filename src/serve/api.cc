#include "serve/api.h"

#include <algorithm>

#include "base/error.h"
#include "base/hash.h"
#include "serve/page.h"
#include "serve/reply_json.h"

namespace tsubu::serve {
namespace {

constexpr double kLook = 0.1;           // seconds between looks whether the client is still there
constexpr double kKeepAlive = 10;       // seconds of silence after which a stream sends an empty comment
constexpr int kClientGone = 499;        // in the metrics: nobody reads the reply
constexpr size_t kMaxJobs = 64;         // prompts × choices of one request

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }
std::string event_of(const Json& json) { return "data: " + dump(json) + "\n\n"; }
std::string hash_of(const std::string& text) { return hash_bytes(std::as_bytes(std::span(text))); }

}  // namespace

struct Api::Reply {
  ApiRequest request;
  ReplyHead head;
  size_t lane = 0;
  std::vector<std::shared_ptr<Job>> jobs;  // prompt by prompt, choice by choice
  ~Reply() {
    for (const auto& job : jobs) job->cancel();
  }
  Json usage() const {
    size_t n_prompt = 0, n_cached = 0, n_generated = 0;
    for (size_t i = 0; i < jobs.size(); ++i) {
      if (i % request.n == 0) {
        n_prompt += jobs[i]->spec.prompt.size();
        n_cached += jobs[i]->n_cached();
      }
      n_generated += jobs[i]->n_generated();
    }
    return usage_json(n_prompt, n_cached, n_generated);
  }
};

std::vector<Route> Api::routes() {
  std::vector<Route> all = {
      route("GET", "/", &Api::page),
      route("GET", "/health", &Api::health),
      route("GET", "/metrics", &Api::metrics),
      route("GET", "/v1/models", &Api::list_models),
      route("POST", "/v1/completions", &Api::completions),
      route("POST", "/v1/chat/completions", &Api::chat),
      route("POST", "/api/score", &Api::score),
  };
  for (const ApiModel& m : models_)
    all.push_back({"GET", "/v1/models/" + m.name, [this, &m](const HttpRequest&, HttpResponse& r) { r.body = dump(model_json(m)); }});
  if (models_.size() == 2) {
    all.push_back(route("POST", "/api/blind", &Api::open_blind));
    all.push_back(route("POST", "/api/vote", &Api::vote));
    all.push_back(route("GET", "/api/votes", &Api::vote_counts));
  }
  return all;
}

Route Api::route(const char* method, const std::string& path, Handler handler) {
  return {method, path, [this, path, handler](const HttpRequest& request, HttpResponse& response) {
            try {
              (this->*handler)(request, response);
            } catch (const ApiError& e) {
              response.status = e.status;
              response.body = error_body(e.status, e.what(), e.param, e.code);
              if (e.status == 429) {
                response.headers.emplace_back("Retry-After", "1");
                metrics_.add(Metric::kRejected);
              }
            } catch (const std::exception& e) {
              response.status = 500;
              response.body = error_body(500, e.what());
            }
            metrics_.add(Metric::kRequests, 1, Metrics::label("path", path) + "," + Metrics::label("status", std::to_string(response.status)));
          }};
}

// ---- about the server -----------------------------------------------------------------------------------------------

void Api::page(const HttpRequest&, HttpResponse& response) {
  response.type = "text/html; charset=utf-8";
  response.headers = {{"Content-Security-Policy",
                       "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
                       "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
                      {"X-Content-Type-Options", "nosniff"}};
  response.body = kPage;
}

void Api::health(const HttpRequest&, HttpResponse& response) {
  response.status = is_draining_ ? 503 : 200;
  response.body = is_draining_ ? R"({"status":"draining"})" : R"({"status":"ok"})";
}

void Api::metrics(const HttpRequest&, HttpResponse& response) {
  metrics_.set(Metric::kQueued, static_cast<double>(scheduler_.n_queued()));
  metrics_.set(Metric::kRunning, static_cast<double>(scheduler_.n_running()));
  metrics_.set(Metric::kResidentBytes, static_cast<double>(resident_bytes()));
  metrics_.set(Metric::kUptimeSeconds, static_cast<double>(static_cast<int64_t>(std::time(nullptr)) - start_));
  response.type = "text/plain; version=0.0.4; charset=utf-8";
  response.body = metrics_.text();
}

Json Api::model_json(const ApiModel& model) const {
  return {{"id", model.name}, {"object", "model"}, {"created", start_}, {"owned_by", "tsubu"}, {"context", context_},
          {"role", &model == &models_.front() ? "model" : "base"}};
}

void Api::list_models(const HttpRequest&, HttpResponse& response) {
  Json json = {{"object", "list"}, {"data", Json::array()}};
  for (const ApiModel& m : models_) json["data"].push_back(model_json(m));
  response.body = dump(json);
}

// ---- jobs -----------------------------------------------------------------------------------------------------------

size_t Api::lane_of(const ApiRequest& request) {
  for (size_t i = 0; i < models_.size(); ++i)
    if (models_[i].name == request.model) return i;
  if (Battles::is_alias(request.model)) {
    const std::string asked = request.job.given.empty() ? hash_of(dump(request.messages)) : "";
    if (const auto lane = battles_.lane_of(request.model, asked)) return *lane;
  }
  std::string names;
  for (const ApiModel& m : models_) names += (names.empty() ? "'" : ", '") + m.name + "'";
  throw ApiError(404, fmt::format("no model '{}' here: there is {}", request.model.substr(0, 100), names), "model", "model_not_found");
}

void Api::check_fits(size_t n_prompt, size_t n_more) const {
  if (n_prompt == 0) throw ApiError(400, "the prompt has no tokens");
  if (n_prompt + n_more > context_)
    throw ApiError(400, fmt::format("{} tokens of prompt and {} after it: the context holds {}", n_prompt, n_more, context_), "",
                   "context_length_exceeded");
}

std::vector<TokenId> Api::prompt_tokens(const ApiRequest&, const ApiPrompt& prompt, size_t lane) const {
  const ApiModel& model = models_[lane];
  if (prompt.is_tokens) {
    for (const TokenId id : prompt.tokens)
      if (static_cast<size_t>(id) >= model.tokenizer->n_tokens())
        throw ApiError(400, fmt::format("token {}: the vocabulary has {}", id, model.tokenizer->n_tokens()), "prompt");
    return prompt.tokens;
  }
  // Longer than any tokens could make it: not worth tokenizing.
  if (prompt.text.size() / model.longest_token > context_) check_fits(prompt.text.size() / model.longest_token, 1);
  return model.tokenizer->encode(prompt.text, true, true);
}

std::vector<TokenId> Api::chat_tokens(const ApiRequest& request, JobSpec& job, size_t lane) const {
  const ApiModel& model = models_[lane];
  std::string text;
  try {
    text = model.chat_template->render({request.messages, request.tools, true, request.template_extra});
  } catch (const Error& e) {
    throw ApiError(400, e.what(), "messages");
  }
  if (text.size() / model.longest_token > context_) check_fits(text.size() / model.longest_token, 1);
  const bool is_plain = model.chat_template->is_plain();
  for (const std::string& stop : model.chat_template->stops()) job.stops.push_back(stop);
  const Vocabulary& v = model.tokenizer->vocabulary();
  job.trim_first_space = request.messages.size() > (is_plain ? 1u : 0u) && v.add_space_prefix &&
                         (v.kind == VocabularyKind::kSentencePieceBpe || v.kind == VocabularyKind::kSentencePieceUnigram);
  return model.tokenizer->encode(text, is_plain, !is_plain);
}

std::shared_ptr<Api::Reply> Api::start(ApiRequest request) {
  if (is_draining_) throw ApiError(503, "the server is shutting down");
  const auto reply = std::make_shared<Reply>();
  reply->lane = lane_of(request);
  if (!request.has_seed) request.job.sampler.seed = std::random_device{}() | uint64_t{std::random_device{}()} << 32;
  const size_t n_vocab = models_[reply->lane].tokenizer->n_tokens();
  for (const auto& [id, bias] : request.job.logit_bias)
    if (static_cast<size_t>(id) >= n_vocab) throw ApiError(400, fmt::format("'logit_bias': token {}: the vocabulary has {}", id, n_vocab), "logit_bias");
  for (const TokenId id : request.job.given)
    if (static_cast<size_t>(id) >= n_vocab) throw ApiError(400, fmt::format("'tokens': token {}: the vocabulary has {}", id, n_vocab), "tokens");

  std::vector<JobSpec> specs;
  const size_t n_prompts = request.is_chat ? 1 : request.prompts.size();
  if (n_prompts * request.n > kMaxJobs) throw ApiError(400, fmt::format("more than {} choices in all", kMaxJobs), "n");
  for (size_t i = 0; i < n_prompts; ++i) {
    JobSpec spec = request.job;
    spec.lane = reply->lane;
    spec.prompt = request.is_chat ? chat_tokens(request, spec, reply->lane) : prompt_tokens(request, request.prompts[i], reply->lane);
    check_fits(spec.prompt.size(), std::max<size_t>(1, spec.given.size()));
    const size_t room = context_ - spec.prompt.size();
    spec.max_tokens = std::min(room, request.has_max_tokens || !request.is_chat ? spec.max_tokens : room);
    for (size_t c = 0; c < request.n; ++c) {
      specs.push_back(spec);
      specs.back().sampler.seed += c;
    }
  }
  reply->head = {request.is_chat, request.job.wants_logprobs, (request.is_chat ? "chatcmpl-" : "cmpl-") + random_id(), request.model,
                 static_cast<int64_t>(std::time(nullptr))};
  reply->request = std::move(request);
  reply->jobs = scheduler_.submit(std::move(specs));
  if (reply->jobs.empty()) throw ApiError(429, "too many requests wait: try again", "", "queue_full");
  return reply;
}

// ---- replies --------------------------------------------------------------------------------------------------------

void Api::completions(const HttpRequest& request, HttpResponse& response) {
  answer(start(parse_completion(parse_body(request.body))), request, response);
}

void Api::chat(const HttpRequest& request, HttpResponse& response) {
  answer(start(parse_chat(parse_body(request.body))), request, response);
}

void Api::look(const HttpRequest& request) const {
  if (request.client_is_gone()) throw ApiError(kClientGone, "the client went away");
  if (is_cut_) throw ApiError(503, "the server is shutting down");
}

void Api::answer(const std::shared_ptr<Reply>& reply, const HttpRequest& request, HttpResponse& response) {
  if (reply->request.is_streamed) {
    response.type = "text/event-stream";
    response.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
    // The request's functions live as long as the connection.
    response.stream = [this, reply, request = HttpRequest{request.method, request.path, "", request.header, request.client_is_gone}](
                          const Write& write) { stream(*reply, request, write); };
    return;
  }
  const Tokenizer& tokenizer = *models_[reply->lane].tokenizer;
  Json choices = Json::array();
  for (size_t i = 0; i < reply->jobs.size(); ++i) {
    std::string text, finish;
    std::vector<TokenResult> tokens;
    while (finish.empty()) {
      auto event = reply->jobs[i]->next(kLook);
      look(request);
      if (!event) continue;
      text += event->text;
      tokens.insert(tokens.end(), std::make_move_iterator(event->tokens.begin()), std::make_move_iterator(event->tokens.end()));
      finish = event->finish;
      if (finish == "error") throw ApiError(500, event->error);
      if (finish == "cancelled") throw ApiError(503, event->error);
    }
    choices.push_back(choice_json(reply->head, i, text, logprobs_json(reply->head, tokens, tokenizer, 0), finish));
  }
  Json json;
  json["id"] = reply->head.id;
  json["object"] = reply->head.is_chat ? "chat.completion" : "text_completion";
  json["created"] = reply->head.created;
  json["model"] = reply->head.model;
  json["choices"] = std::move(choices);
  json["usage"] = reply->usage();
  response.body = dump(json);
}

void Api::stream(Reply& reply, const HttpRequest& request, const Write& write) {
  const Tokenizer& tokenizer = *models_[reply.lane].tokenizer;
  std::vector<bool> is_done(reply.jobs.size(), false), is_first(reply.jobs.size(), true);
  std::vector<size_t> offsets(reply.jobs.size(), 0);
  size_t n_open = reply.jobs.size();
  auto last_write = std::chrono::steady_clock::now();
  const auto send = [&](const std::string& text) {
    last_write = std::chrono::steady_clock::now();
    return write(text);
  };
  while (n_open > 0) {
    for (size_t i = 0; i < reply.jobs.size(); ++i) {
      if (is_done[i]) continue;
      auto event = reply.jobs[i]->next(kLook / static_cast<double>(n_open));
      if (!event) continue;
      if (event->finish == "error" || event->finish == "cancelled") {
        send("data: " + error_body(event->finish == "error" ? 500 : 503, event->error) + "\n\n");
        return;
      }
      if (event->text.empty() && event->tokens.empty() && !event->is_last) continue;
      const Json logprobs = event->tokens.empty() ? Json() : logprobs_json(reply.head, event->tokens, tokenizer, offsets[i]);
      for (const TokenResult& t : event->tokens) offsets[i] += tokenizer.piece(t.id).size();
      if (!send(event_of(chunk_json(reply.head, i, event->text, logprobs, event->finish, is_first[i])))) return;
      is_first[i] = false;
      is_done[i] = event->is_last;
      n_open -= event->is_last;
    }
    if (request.client_is_gone()) return;
    if (is_cut_) {
      send("data: " + error_body(503, "the server is shutting down") + "\n\n");
      return;
    }
    if (std::chrono::duration<double>(std::chrono::steady_clock::now() - last_write).count() > kKeepAlive && !send(":\n\n")) return;
  }
  if (reply.request.wants_usage) {
    Json json = chunk_json(reply.head, 0, "", Json(), "", false);
    json["choices"] = Json::array();
    json["usage"] = reply.usage();
    if (!send(event_of(json))) return;
  }
  send("data: [DONE]\n\n");
}

// ---- side by side ---------------------------------------------------------------------------------------------------

void Api::score(const HttpRequest& request, HttpResponse& response) {
  const auto reply = start(parse_score(parse_body(request.body)));
  std::vector<TokenResult> tokens;
  for (bool is_done = false; !is_done;) {
    auto event = reply->jobs[0]->next(kLook);
    look(request);
    if (!event) continue;
    if (event->finish == "error") throw ApiError(500, event->error);
    if (event->finish == "cancelled") throw ApiError(503, event->error);
    tokens.insert(tokens.end(), std::make_move_iterator(event->tokens.begin()), std::make_move_iterator(event->tokens.end()));
    is_done = event->is_last;
  }
  response.body = dump({{"model", reply->head.model}, {"tokens", token_list(tokens, *models_[reply->lane].tokenizer)}});
}

void Api::open_blind(const HttpRequest&, HttpResponse& response) {
  const std::string id = battles_.open();
  response.body = dump({{"id", id}, {"left", "blind-" + id + "-left"}, {"right", "blind-" + id + "-right"}});
}

Json Api::votes_json() const {
  const VoteCount c = votes_.count(models_[0].name, models_[1].name);
  return {{"model", models_[0].name}, {"base", models_[1].name},      {"model_wins", c.model}, {"base_wins", c.base},
          {"ties", c.ties},           {"share", c.share},             {"ci95", {c.ci95[0], c.ci95[1]}}, {"p", c.p}};
}

void Api::vote(const HttpRequest& request, HttpResponse& response) {
  const Json body = parse_body(request.body);
  const auto text = [&](const char* name) {
    if (!body.is_object() || !body.contains(name) || !body[name].is_string()) throw ApiError(400, fmt::format("'{}' is missing", name), name);
    return body[name].get<std::string>();
  };
  const std::string id = text("id"), choice = text("choice");
  if (choice != "left" && choice != "right" && choice != "tie")
    throw ApiError(400, "'choice': expected 'left', 'right' or 'tie'", "choice");
  const auto battle = battles_.close(id);
  if (!battle)
    throw ApiError(409, "no such comparison is open, or the two sides were not asked the same: POST /api/blind, ask both, then vote", "id");
  const std::string& left = models_[battle->left].name;
  const std::string& right = models_[1 - battle->left].name;
  const std::string winner = choice == "tie" ? "" : choice == "left" ? left : right;
  votes_.add({models_[0].name, models_[1].name, winner, left, battle->prompt_hash[0]});
  metrics_.add(Metric::kVotes, 1, Metrics::label("winner", winner.empty() ? "tie" : winner));
  response.body = dump({{"left", left}, {"right", right}, {"winner", winner.empty() ? Json() : Json(winner)}, {"votes", votes_json()}});
}

void Api::vote_counts(const HttpRequest&, HttpResponse& response) { response.body = dump(votes_json()); }

}  // namespace tsubu::serve
