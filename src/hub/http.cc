#include "hub/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <exception>

#include "base/progress.h"

namespace tsubu {
namespace {

constexpr size_t kMaxHeaders = 200, kMaxHeaderBytes = size_t{1} << 16;
constexpr long kConnectSeconds = 15;

void start_curl() {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (started != CURLE_OK) fail(ExitCode::kUnsupported, "libcurl does not start: {}", curl_easy_strerror(started));
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return lower;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == '\r' || text.back() == '\n' || text.back() == ' ' || text.back() == '\t'))
    text.remove_suffix(1);
  return text;
}

// What the callbacks of one transfer share. Exceptions must not pass through libcurl: they wait here.
struct Transfer {
  const FetchRequest& request;
  FetchResponse response;
  size_t header_bytes = 0;
  std::exception_ptr error;
};

size_t on_header(char* data, size_t, size_t n, void* user) {
  auto& t = *static_cast<Transfer*>(user);
  const std::string_view line = trimmed({data, n});
  t.header_bytes += n;
  if (t.response.headers.size() >= kMaxHeaders || t.header_bytes > kMaxHeaderBytes) return 0;
  try {
    if (line.starts_with("HTTP/")) {  // also after an interim answer (100, 103)
      t.response = {};
      const size_t blank = line.find(' ');
      t.response.status = blank == line.npos ? 0 : std::atoi(std::string(line.substr(blank + 1, 3)).c_str());
      return n;
    }
    if (const size_t colon = line.find(':'); colon != line.npos)
      t.response.headers.emplace_back(lower_case(line.substr(0, colon)), trimmed(line.substr(colon + 1)));
  } catch (...) {
    t.error = std::current_exception();
    return 0;
  }
  return n;
}

size_t on_body(char* data, size_t, size_t n, void* user) {
  auto& t = *static_cast<Transfer*>(user);
  try {
    if (t.request.sink && (t.response.status == 200 || t.response.status == 206)) {
      t.request.sink(t.response, std::as_bytes(std::span(data, n)));
    } else {
      if (t.response.body.size() + n > t.request.max_body)
        fail(ExitCode::kBadInput, "{}: expected at most {} bytes of answer, found more", shown_url(t.request.url),
             t.request.max_body);
      t.response.body.append(data, n);
    }
  } catch (...) {
    t.error = std::current_exception();
    return n == 0 ? 1 : 0;
  }
  return n;
}

int on_progress(void*, curl_off_t, curl_off_t, curl_off_t, curl_off_t) { return interrupted() ? 1 : 0; }

struct UrlHandle {
  CURLU* url = curl_url();
  ~UrlHandle() { curl_url_cleanup(url); }
  std::string part(CURLUPart what) const {
    char* text = nullptr;
    if (curl_url_get(url, what, &text, what == CURLUPART_PORT ? CURLU_DEFAULT_PORT : 0) != CURLUE_OK) return "";
    std::string copy(text);
    curl_free(text);
    return copy;
  }
};

void parse_url(UrlHandle& handle, const std::string& url) {
  if (curl_url_set(handle.url, CURLUPART_URL, url.c_str(), 0) != CURLUE_OK)
    fail(ExitCode::kBadInput, "'{}': expected an address, https://host/…", shown_url(url));
  const std::string scheme = handle.part(CURLUPART_SCHEME);
  if (scheme != "https" && scheme != "http")
    fail(ExitCode::kBadInput, "{}: expected an address with https or http, found {}", shown_url(url), scheme);
}

bool is_transient(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_SSL_CONNECT_ERROR:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::string_view FetchResponse::header(std::string_view lower_case_name) const {
  std::string_view value;
  for (const auto& [name, text] : headers)
    if (name == lower_case_name) value = text;
  return value;
}

struct HttpClient::State {
  CURL* handle = nullptr;
  int stall_seconds = 0;
  ~State() { curl_easy_cleanup(handle); }
};

HttpClient::HttpClient(int stall_seconds) : state_(std::make_unique<State>()) {
  start_curl();
  state_->handle = curl_easy_init();
  state_->stall_seconds = stall_seconds;
  if (!state_->handle) fail(ExitCode::kUnsupported, "libcurl gives no handle (out of memory?)");
}

HttpClient::~HttpClient() = default;

FetchResponse HttpClient::get(const FetchRequest& request) {
  CURL* c = state_->handle;
  curl_easy_reset(c);  // options only: connections stay
  Transfer transfer{request, {}, 0, nullptr};
  curl_slist* list = nullptr;
  for (const std::string& header : request.headers) list = curl_slist_append(list, header.c_str());
  struct ListOwner {
    curl_slist* list;
    ~ListOwner() { curl_slist_free_all(list); }
  } owner{list};
  char message[CURL_ERROR_SIZE] = "";
  curl_easy_setopt(c, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(c, CURLOPT_HTTPHEADER, list);
  curl_easy_setopt(c, CURLOPT_USERAGENT, "tsubu/" TSUBU_VERSION);
  curl_easy_setopt(c, CURLOPT_NOBODY, request.head ? 1L : 0L);
  curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, static_cast<long>(state_->stall_seconds));
  curl_easy_setopt(c, CURLOPT_ERRORBUFFER, message);
  curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(c, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(c, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L << 10);
  const CURLcode code = curl_easy_perform(c);
  curl_easy_setopt(c, CURLOPT_ERRORBUFFER, nullptr);
  if (transfer.error) std::rethrow_exception(transfer.error);
  throw_if_interrupted();
  if (code != CURLE_OK)
    throw TransportError(fmt::format("{}: {}", shown_url(request.url), message[0] ? message : curl_easy_strerror(code)),
                         is_transient(code));
  return std::move(transfer.response);
}

std::string resolve_url(const std::string& base, const std::string& location) {
  start_curl();
  UrlHandle handle;
  parse_url(handle, base);
  if (curl_url_set(handle.url, CURLUPART_URL, location.c_str(), 0) != CURLUE_OK)
    fail(ExitCode::kBadInput, "{}: redirects to '{}': expected an address", shown_url(base), shown_url(location));
  const std::string url = handle.part(CURLUPART_URL);
  UrlHandle resolved;
  parse_url(resolved, url);
  return url;
}

std::string origin_of(const std::string& url) {
  start_curl();
  UrlHandle handle;
  parse_url(handle, url);
  return fmt::format("{}://{}:{}", handle.part(CURLUPART_SCHEME), lower_case(handle.part(CURLUPART_HOST)),
                     handle.part(CURLUPART_PORT));
}

std::string host_of(const std::string& url) {
  start_curl();
  UrlHandle handle;
  parse_url(handle, url);
  return lower_case(handle.part(CURLUPART_HOST));
}

std::string shown_url(std::string_view url) {
  std::string shown(url.substr(0, std::min(url.find_first_of("?#"), url.size())));
  // Nor what stands before the host: user:password@.
  if (const size_t scheme = shown.find("://"); scheme != shown.npos) {
    const size_t end = std::min(shown.find('/', scheme + 3), shown.size());
    const size_t at = shown.rfind('@', end);
    if (at != shown.npos && at > scheme && at < end) shown.erase(scheme + 3, at - scheme - 2);
  }
  for (char& c : shown)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return shown;
}

std::string percent_encode(std::string_view text, bool keep_slash) {
  std::string encoded;
  for (char c : text) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' ||
                       c == '_' || c == '~' || (c == '/' && keep_slash);
    if (plain)
      encoded += c;
    else
      encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return encoded;
}

}  // namespace tsubu
