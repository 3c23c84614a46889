#include "serve/battles.h"

#include <fmt/format.h>

namespace tsubu::serve {

std::string random_id() {
  static thread_local std::random_device random;
  std::string id;
  for (int i = 0; i < 4; ++i) id += fmt::format("{:08x}", random());
  return id;
}

std::string Battles::open() {
  const std::string id = random_id();
  const std::lock_guard lock(mutex_);
  open_[id].left = random_() & 1;
  order_.push_back(id);
  while (order_.size() > kMost) {
    open_.erase(order_.front());
    order_.pop_front();
  }
  return id;
}

std::optional<size_t> Battles::lane_of(const std::string& alias, const std::string& prompt_hash) {
  const size_t dash = alias.rfind('-');
  const std::string side = alias.substr(dash + 1);
  if (!is_alias(alias) || dash < 6 || (side != "left" && side != "right")) return std::nullopt;
  const std::lock_guard lock(mutex_);
  const auto it = open_.find(alias.substr(6, dash - 6));
  if (it == open_.end()) return std::nullopt;
  const bool is_right = side == "right";
  if (!prompt_hash.empty()) it->second.prompt_hash[is_right] = prompt_hash;
  return is_right ? 1 - it->second.left : it->second.left;
}

std::optional<Battle> Battles::close(const std::string& id) {
  const std::lock_guard lock(mutex_);
  const auto it = open_.find(id);
  if (it == open_.end() || it->second.prompt_hash[0].empty() || it->second.prompt_hash[0] != it->second.prompt_hash[1]) return std::nullopt;
  const Battle battle = it->second;
  open_.erase(it);
  std::erase(order_, id);
  return battle;
}

}  // namespace tsubu::serve
