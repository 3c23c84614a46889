#include "hub/environment.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "hub/http.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

bool is_true(std::string text) {
  for (char& c : text)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return text == "1" || text == "ON" || text == "YES" || text == "TRUE";
}

// "~/x" and $NAME or ${NAME} as a shell has them: huggingface_hub expands both.
std::string expanded(const std::string& path) {
  std::string text = path;
  if (text == "~" || text.starts_with("~/")) text = variable("HOME") + text.substr(1);
  std::string result;
  for (size_t at = 0; at < text.size();) {
    if (text[at] != '$') {
      result += text[at++];
      continue;
    }
    const bool braces = at + 1 < text.size() && text[at + 1] == '{';
    const size_t begin = at + (braces ? 2 : 1);
    size_t end = begin;
    while (end < text.size() && (std::isalnum(static_cast<unsigned char>(text[end])) || text[end] == '_')) ++end;
    const std::string name = text.substr(begin, end - begin);
    if (name.empty() || (braces && (end >= text.size() || text[end] != '}')) || !std::getenv(name.c_str())) {
      result += text[at++];
      continue;
    }
    result += variable(name.c_str());
    at = end + (braces ? 1 : 0);
  }
  return result;
}

std::string first_set(std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (const std::string value = variable(name); !value.empty()) return value;
  return "";
}

std::string cleaned_token(std::string token, const std::string& where) {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
  while (!token.empty() && is_blank(token.back())) token.pop_back();
  while (!token.empty() && is_blank(token.front())) token.erase(0, 1);
  // It becomes a header: a line break in it would become another one. The value is not shown.
  if (std::any_of(token.begin(), token.end(), [](char c) { return c <= 0x20 || c == 0x7f; }))
    fail(ExitCode::kUsage, "{}: expected a token without blanks or control characters", where);
  return token;
}

}  // namespace

HubEnvironment HubEnvironment::read() {
  HubEnvironment e;
  e.endpoint = first_set({"HF_ENDPOINT"});
  if (e.endpoint.empty()) e.endpoint = "https://huggingface.co";
  while (e.endpoint.ends_with('/')) e.endpoint.pop_back();
  try {
    origin_of(e.endpoint);
  } catch (const Error& error) {
    fail(ExitCode::kUsage, "HF_ENDPOINT: {}", error.what());
  }

  std::string home = first_set({"HF_HOME"});
  if (home.empty()) {
    const std::string cache = first_set({"XDG_CACHE_HOME"});
    home = (cache.empty() ? fs::path("~/.cache") : fs::path(cache)) / "huggingface";
  }
  home = expanded(home);
  e.cache = first_set({"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"});
  e.cache = e.cache.empty() ? (fs::path(home) / "hub").string() : expanded(e.cache);

  e.token = cleaned_token(first_set({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}), "HF_TOKEN");
  if (e.token.empty() && !is_true(variable("HF_HUB_DISABLE_IMPLICIT_TOKEN"))) {
    std::string path = first_set({"HF_TOKEN_PATH"});
    path = path.empty() ? (fs::path(home) / "token").string() : expanded(path);
    std::error_code error;
    if (fs::is_regular_file(path, error)) e.token = cleaned_token(read_text_file(path, 1 << 16), path);
  }
  std::string offline = variable("HF_HUB_OFFLINE");
  if (offline.empty()) offline = variable("TRANSFORMERS_OFFLINE");
  e.offline = is_true(offline);
  if (const int seconds = std::atoi(variable("HF_HUB_DOWNLOAD_TIMEOUT").c_str()); seconds > 0)
    e.stall_seconds = std::min(seconds, 3600);
  if (const std::string wait = variable("TSUBU_HUB_WAIT"); !wait.empty()) {
    e.first_wait_seconds = std::strtod(wait.c_str(), nullptr);
    if (!(e.first_wait_seconds >= 0 && e.first_wait_seconds <= 3600)) fail(ExitCode::kUsage, "TSUBU_HUB_WAIT: expected seconds, 0 … 3600");
  }
  return e;
}

}  // namespace tsubu
