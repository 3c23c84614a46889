#include "pipeline/pieces.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"

namespace tsubu {
namespace {

TEST(pieces, arrive_once_and_in_order_for_any_number_of_threads_and_slots) {
  for (int n_threads : {1, 2, 5})
    for (size_t n_slots : {1u, 2u, 7u}) {
      ThreadPool pool(n_threads);
      std::vector<size_t> seen;
      run_in_order(
          pool, 200, n_slots,
          [](size_t piece, int, std::vector<std::byte>& buffer) {
            buffer.resize(sizeof piece);
            std::memcpy(buffer.data(), &piece, sizeof piece);
            if (piece % 17 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
          },
          [&](size_t piece, const std::vector<std::byte>& buffer) {
            size_t content = 0;
            std::memcpy(&content, buffer.data(), sizeof content);
            EXPECT_EQ(content, piece);
            seen.push_back(piece);
          });
      ASSERT_EQ(seen.size(), 200u);
      for (size_t i = 0; i < seen.size(); ++i) EXPECT_EQ(seen[i], i);
    }
}

TEST(pieces, an_error_in_either_half_ends_the_run) {
  ThreadPool pool(4);
  const auto quiet = [](size_t, int, std::vector<std::byte>&) {};
  EXPECT_THROW(run_in_order(pool, 100, 3, quiet,
                            [](size_t piece, const std::vector<std::byte>&) {
                              if (piece == 40) fail(ExitCode::kIo, "disk full");
                            }),
               Error);
  EXPECT_THROW(run_in_order(
                   pool, 100, 3,
                   [](size_t piece, int, std::vector<std::byte>&) {
                     if (piece == 40) fail(ExitCode::kBadInput, "not a number");
                   },
                   [](size_t, const std::vector<std::byte>&) {}),
               Error);
}

}  // namespace
}  // namespace tsubu
