#include "base/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>

namespace tsubu {
namespace {

TEST(Threads, EveryItemRunsOnce) {
  for (const int n_threads : {1, 2, 7}) {
    ThreadPool pool(n_threads);
    EXPECT_EQ(pool.size(), n_threads);
    for (const size_t n_items : {size_t{0}, size_t{1}, size_t{2}, size_t{1000}}) {
      std::vector<std::atomic<int>> calls(n_items);
      std::atomic<bool> worker_in_range{true};
      pool.parallel_for(n_items, [&](size_t item, int worker) {
        calls[item]++;
        if (worker < 0 || worker >= n_threads) worker_in_range = false;
      });
      for (const auto& c : calls) EXPECT_EQ(c.load(), 1);
      EXPECT_TRUE(worker_in_range);
    }
  }
}

TEST(Threads, ExceptionsReachTheCallerAndThePoolGoesOn) {
  for (const int n_threads : {1, 4}) {
    ThreadPool pool(n_threads);
    for (int round = 0; round < 20; ++round) {
      EXPECT_THROW(pool.parallel_for(50, [](size_t item, int) {
        if (item % 3 == 1) throw std::runtime_error("item");
      }), std::runtime_error);
      std::atomic<size_t> sum{0};
      pool.parallel_for(50, [&](size_t item, int) { sum += item; });
      EXPECT_EQ(sum, 1225u);
    }
  }
}

TEST(Threads, DefaultIsOnePerProcessor) {
  EXPECT_GE(available_processors(), 1);
  EXPECT_EQ(ThreadPool().size(), available_processors());
}

}  // namespace
}  // namespace tsubu
