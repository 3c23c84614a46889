#include "hub/client.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <thread>
#include <utility>

#include "base/progress.h"
#include "base/size.h"

namespace tsubu {
namespace {

constexpr int kMaxRedirects = 5;
constexpr double kMaxWaitSeconds = 300;  // that a server may ask for
constexpr size_t kShownMessage = 300;

bool is_busy(int status) { return status == 408 || status == 429 || (status >= 500 && status != 501 && status != 505); }

// Seconds; Retry-After may also be a date, which is taken as "not said".
double retry_after(const FetchResponse& response) {
  const std::string_view text = response.header("retry-after");
  unsigned seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  const bool is_number = error == std::errc() && end == text.data() + text.size() && !text.empty();
  return is_number ? static_cast<double>(seconds) : -1.0;
}

// The hub's own explanation, made safe to show.
std::string server_message(const FetchResponse& response) {
  std::string text(response.header("x-error-message"));
  if (text.empty()) return "";
  if (text.size() > kShownMessage) text.resize(kShownMessage);
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return " (the server says: " + text + ")";
}

void sleep_seconds(double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (std::chrono::steady_clock::now() < end) {
    throw_if_interrupted();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

bool is_loopback(const std::string& host) { return host == "localhost" || host == "[::1]" || host.starts_with("127."); }

}  // namespace

HubClient::HubClient(const HubEnvironment& environment)
    : environment_(environment), origin_(origin_of(environment.endpoint)), http_(environment.stall_seconds) {
  if (environment.offline) fail(ExitCode::kIo, "HF_HUB_OFFLINE is set: nothing is asked of the hub");
  if (!environment_.token.empty() && origin_.starts_with("http://") && !is_loopback(host_of(environment.endpoint)))
    warn(fmt::format("{}: the token goes there unencrypted (use https)", shown_url(environment.endpoint)));
}

void HubClient::fail_status(const FetchResponse& response, const std::string& subject, const std::string& url) const {
  const int status = response.status;
  const std::string_view code = response.header("x-error-code");
  const std::string said = server_message(response);
  if (is_busy(status))
    throw BusyError(fmt::format("{}: the server answers {}{}", shown_url(url), status, said), retry_after(response));
  const bool has_token = !environment_.token.empty();
  if (code == "GatedRepo" || (status == 403 && code.empty()))
    fail(ExitCode::kIo, "{}: access is gated: {}, at {}/{}{}", subject,
         has_token ? "the token's owner has to be granted it first" : "ask for it, then set HF_TOKEN", environment_.endpoint,
         subject.substr(0, subject.find_first_of("@:")), said);
  if (code == "RevisionNotFound")
    fail(ExitCode::kIo, "{}: the model has no such revision (check the name behind '@'){}", subject, said);
  if (code == "EntryNotFound") fail(ExitCode::kIo, "{}: {}: no such file in this revision{}", subject, shown_url(url), said);
  if (code == "RepoNotFound" || status == 404 || status == 401)
    fail(ExitCode::kIo, "{}: no such model on {}, or a private one{}{}", subject, environment_.endpoint,
         has_token ? " that the token does not open (check the name)" : ": check the name; private ones need HF_TOKEN", said);
  fail(ExitCode::kIo, "{}: expected {} to answer 200, found {}{}", subject, shown_url(url), status, said);
}

FetchResponse HubClient::follow(FetchRequest request, const std::string& subject, bool leave_hub,
                               const std::function<void(const FetchResponse&)>& on_hub) {
  const std::vector<std::string> headers = request.headers;
  for (int hop = 0; hop <= kMaxRedirects; ++hop) {
    const bool on_own_origin = origin_of(request.url) == origin_;
    request.headers = headers;
    if (on_own_origin && !environment_.token.empty()) request.headers.push_back("Authorization: Bearer " + environment_.token);
    FetchResponse response;
    bool seen = false;
    FetchRequest with_check = request;
    if (request.sink)
      with_check.sink = [&](const FetchResponse& so_far, std::span<const std::byte> bytes) {
        if (on_own_origin && on_hub && !std::exchange(seen, true)) on_hub(so_far);
        request.sink(so_far, bytes);
      };
    response = http_.get(with_check);
    if (response.is_redirect()) {
      const std::string_view location = response.header("location");
      if (location.empty()) fail(ExitCode::kBadInput, "{}: a redirect ({}) to nowhere", shown_url(request.url), response.status);
      const std::string next = resolve_url(request.url, std::string(location));
      const bool stays = origin_of(next) == origin_;
      // The answer that leads out is the one that knows the file; those before it (a renamed model) do not.
      if (on_own_origin && !stays && on_hub) on_hub(response);
      if (!stays && !leave_hub) return response;
      if (request.url.starts_with("https:") && !next.starts_with("https:"))
        fail(ExitCode::kBadInput, "{}: redirects to {}: refused, because the connection would no longer be encrypted",
             shown_url(request.url), shown_url(next));
      request.url = next;
      continue;
    }
    if (response.status != 200 && response.status != 206) fail_status(response, subject, request.url);
    if (on_own_origin && on_hub && !seen) on_hub(response);  // an empty file
    return response;
  }
  fail(ExitCode::kBadInput, "{}: more than {} redirects", subject, kMaxRedirects);
}

void HubClient::wait_to_retry(int n, const Error& error) {
  const auto* transport = dynamic_cast<const TransportError*>(&error);
  if (!transport || !transport->is_transient) throw error;
  if (n > max_tries())
    fail(ExitCode::kIo, "{}, {} times in a row (what came so far is kept; the same command goes on from there)", error.what(),
         max_tries());
  double seconds = environment_.first_wait_seconds * std::ldexp(1.0, n - 1);
  if (const auto* busy = dynamic_cast<const BusyError*>(&error); busy && busy->wait_seconds >= 0) {
    if (busy->wait_seconds > kMaxWaitSeconds)
      fail(ExitCode::kIo, "{} and wants to be asked again in {} (try then)", error.what(), format_duration(busy->wait_seconds));
    seconds = busy->wait_seconds;
  }
  note(fmt::format("{}; trying again in {:.3g} s", error.what(), seconds));
  sleep_seconds(seconds);
}

FetchResponse HubClient::with_retries(const std::function<FetchResponse()>& attempt) {
  for (int n = 1;; ++n) {
    try {
      return attempt();
    } catch (const BusyError& error) {
      wait_to_retry(n, error);
    } catch (const TransportError& error) {
      if (!error.is_transient) throw;
      wait_to_retry(n, error);
    }
  }
}

Json HubClient::get_json(const std::string& path, const std::string& subject) {
  FetchRequest request;
  request.url = environment_.endpoint + path;
  request.headers = {"Accept: application/json"};
  const FetchResponse response = with_retries([&] { return follow(request, subject, false, nullptr); });
  if (response.is_redirect())
    fail(ExitCode::kBadInput, "{}: {} redirects to another server: refused", subject, shown_url(request.url));
  return parse_json(response.body, shown_url(request.url));
}

std::string HubClient::get_text(const std::string& path, const std::string& subject) {
  FetchRequest request;
  request.url = environment_.endpoint + path;
  return with_retries([&] { return follow(request, subject, true, nullptr); }).body;
}

FetchResponse HubClient::head_file(const std::string& path, const std::string& subject) {
  FetchRequest request;
  request.url = environment_.endpoint + path;
  request.head = true;
  return with_retries([&] { return follow(request, subject, false, nullptr); });
}

void HubClient::get_file(const std::string& path, const std::string& subject, uint64_t offset,
                         const std::function<void(const FetchResponse&)>& on_hub,
                         std::function<void(const FetchResponse&, std::span<const std::byte>)> sink) {
  FetchRequest request;
  request.url = environment_.endpoint + path;
  if (offset > 0) request.headers.push_back(fmt::format("Range: bytes={}-", offset));
  request.sink = std::move(sink);
  follow(std::move(request), subject, true, on_hub);
}

}  // namespace tsubu
