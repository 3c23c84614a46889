// What the environment says about the hub, by the names that huggingface_hub reads, so that one set-up serves both.
#pragma once

#include <string>

namespace tsubu {

struct HubEnvironment {
  std::string endpoint;     // HF_ENDPOINT, without a slash at its end; https://huggingface.co
  std::string cache;        // HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub, ~/.cache/…
  std::string token;        // HF_TOKEN, HUGGING_FACE_HUB_TOKEN, the file HF_TOKEN_PATH or HF_HOME/token; empty: none
  bool offline = false;     // HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE
  double first_wait_seconds = 0.5;  // TSUBU_HUB_WAIT: before the first new try; doubles with each
  int stall_seconds = 30;   // HF_HUB_DOWNLOAD_TIMEOUT: so long without a byte means a broken connection

  // Throws Error(kUsage) for values that cannot be: an endpoint that is no address, a token with blanks in it.
  static HubEnvironment read();
};

}  // namespace tsubu
