#include "serve/job.h"

namespace tsubu::serve {

std::optional<JobEvent> Job::next(double seconds) {
  std::unique_lock lock(mutex_);
  if (!wake_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return !events_.empty(); })) return std::nullopt;
  JobEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

void Job::push(JobEvent event) {
  const std::lock_guard lock(mutex_);
  events_.push_back(std::move(event));
  wake_.notify_one();
}

}  // namespace tsubu::serve
