#include "base/threads.h"

#include <sched.h>

#include <algorithm>

namespace tsubu {

int available_processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

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
    const size_t item = __atomic_fetch_add(&next_item_, 1, __ATOMIC_RELAXED);
    if (item >= n_items_) return;
    try {
      (*job_)(item, worker);
    } catch (...) {
      std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      __atomic_store_n(&next_item_, n_items_, __ATOMIC_RELAXED);
    }
  }
}

void ThreadPool::worker_loop(int worker) {
  uint64_t seen = 0;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || generation_ != seen; });
      if (stop_) return;
      seen = generation_;
    }
    run_items(worker);
    {
      std::lock_guard lock(mutex_);
      if (--busy_ == 0) done_.notify_one();
    }
  }
}

void ThreadPool::parallel_for(size_t n_items, const std::function<void(size_t, int)>& f) {
  if (n_items == 0) return;
  if (workers_.empty() || n_items == 1) {
    for (size_t i = 0; i < n_items; ++i) f(i, 0);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    job_ = &f;
    n_items_ = n_items;
    next_item_ = 0;
    error_ = nullptr;
    busy_ = static_cast<int>(workers_.size());
    ++generation_;
  }
  wake_.notify_all();
  run_items(0);
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return busy_ == 0; });
  job_ = nullptr;
  if (error_) std::rethrow_exception(error_);
}

}  // namespace tsubu
