// A fixed set of worker threads. Work items are handed out dynamically, so an item's result must depend on the item
// alone: then nothing depends on the number of threads. Between two calls that follow each other closely workers wait
// without sleeping: waking a thread takes longer than a small matrix product. A worker that does not come in time is not
// waited for.
#pragma once

#include <atomic>
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
  uint64_t wait_for_call(uint64_t seen);
  void wait_for_workers();

  std::vector<std::thread> workers_;
  const std::function<void(size_t, int)>* job_ = nullptr;  // of the open call; workers that have joined it may read it
  size_t n_items_ = 0;
  alignas(64) std::atomic<size_t> next_item_ = 0;
  // Which call this is, whether workers may still join it, and how many are at work: call · kCall + open · kOpen + active.
  alignas(64) std::atomic<uint64_t> state_ = 0;
  std::atomic<int> n_asleep_ = 0;         // workers
  std::atomic<bool> caller_asleep_ = false;
  std::atomic<bool> stop_ = false;
  std::mutex mutex_;                      // for sleeping, and error_
  std::condition_variable wake_, done_;
  std::exception_ptr error_;
};

// Processors this process may run on.
int available_processors();

}  // namespace tsubu
