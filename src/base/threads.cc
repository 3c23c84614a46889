#include "base/threads.h"

#include <sched.h>

#include <algorithm>
#include <chrono>

namespace tsubu {

int available_processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

namespace {

constexpr uint64_t kOpen = uint64_t{1} << 16, kCall = kOpen << 1, kActive = kOpen - 1;
constexpr auto kPatience = std::chrono::microseconds(60);  // of waiting awake: about what waking a thread takes

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Looks again and again for a while; whether it came true.
template <class F>
bool wait_awake(F is_true) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 1; !is_true(); ++i) {
    relax();
    if (i % 64 == 0 && std::chrono::steady_clock::now() - start > kPatience) return false;
  }
  return true;
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) {
  const int n = n_threads > 0 ? n_threads : available_processors();
  for (int i = 1; i < n; ++i) workers_.emplace_back([this, i] { worker_loop(i); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (auto& w : workers_) w.join();
}

void ThreadPool::run_items(int worker) {
  for (;;) {
    const size_t item = next_item_.fetch_add(1, std::memory_order_relaxed);
    if (item >= n_items_) return;
    try {
      (*job_)(item, worker);
    } catch (...) {
      std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      next_item_.store(n_items_, std::memory_order_relaxed);
    }
  }
}

// The state when a call other than `seen` has begun, or when the pool ends.
uint64_t ThreadPool::wait_for_call(uint64_t seen) {
  const auto has_come = [&] { return state_.load() / kCall != seen || stop_.load(); };
  if (!wait_awake(has_come)) {
    std::unique_lock lock(mutex_);
    ++n_asleep_;
    wake_.wait(lock, has_come);
    --n_asleep_;
  }
  return state_.load();
}

void ThreadPool::worker_loop(int worker) {
  uint64_t seen = 0;
  for (;;) {
    uint64_t state = wait_for_call(seen);
    if (stop_.load()) return;
    seen = state / kCall;
    while ((state & kOpen) && state / kCall == seen && !state_.compare_exchange_weak(state, state + 1)) {
    }
    if (!(state & kOpen) || state / kCall != seen) continue;  // over before this worker came; or already the next one
    run_items(worker);
    if ((state_.fetch_sub(1) & kActive) == 1 && caller_asleep_.load()) {
      std::lock_guard lock(mutex_);
      done_.notify_one();
    }
  }
}

void ThreadPool::wait_for_workers() {
  const auto are_done = [&] { return (state_.load() & kActive) == 0; };
  if (wait_awake(are_done)) return;
  std::unique_lock lock(mutex_);
  caller_asleep_ = true;
  done_.wait(lock, are_done);
  caller_asleep_ = false;
}

void ThreadPool::parallel_for(size_t n_items, const std::function<void(size_t, int)>& f) {
  if (n_items == 0) return;
  if (workers_.empty() || n_items == 1) {
    for (size_t i = 0; i < n_items; ++i) f(i, 0);
    return;
  }
  job_ = &f;
  n_items_ = n_items;
  next_item_ = 0;
  error_ = nullptr;
  state_.store((state_.load() / kCall + 1) * kCall + kOpen);
  if (n_asleep_.load() > 0) {
    std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
  run_items(0);
  state_.fetch_and(~kOpen);
  wait_for_workers();
  job_ = nullptr;
  if (error_) std::rethrow_exception(error_);
}

}  // namespace tsubu
