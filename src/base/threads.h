// A fixed set of worker threads. Work items are handed out dynamically, so an item's result must depend on the item
// alone: then nothing depends on the number of threads.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace tsubu {

class ThreadPool {
 public:
  // n_threads <= 0: one per processor this process may use.
  explicit ThreadPool(int n_threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls f(item, worker) for item in [0, n_items), worker in [0, size()); the caller is worker 0. Returns when all are
  // done; the first exception thrown is rethrown here (remaining items are skipped). Not reentrant.
  void parallel_for(size_t n_items, const std::function<void(size_t item, int worker)>& f);

 private:
  void run_items(int worker);
  void worker_loop(int worker);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(size_t, int)>* job_ = nullptr;
  size_t n_items_ = 0, next_item_ = 0;
  int busy_ = 0;
  uint64_t generation_ = 0;
  bool stop_ = false;
  std::exception_ptr error_;
};

// Processors this process may run on.
int available_processors();

}  // namespace tsubu
