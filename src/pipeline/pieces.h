// Pieces of a tensor stream: worked on by any thread in any order, handed to the sink strictly in order.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string_view>
#include <vector>

#include "base/threads.h"

namespace tsubu {

// What an interrupted run that writes through an AtomicFile says besides.
inline constexpr std::string_view kNothingLeft = "no output was left behind";

// Runs produce(piece, worker, buffer) for every piece in [0, n) on the pool; sink(piece, buffer) is called in piece order,
// one call at a time, by whichever worker completes the next piece in line. At most n_slots buffers exist, so memory is
// bounded whatever the sink's speed. The first exception of either ends the run and is rethrown.
void run_in_order(ThreadPool& pool, size_t n_pieces, size_t n_slots,
                  const std::function<void(size_t piece, int worker, std::vector<std::byte>& buffer)>& produce,
                  const std::function<void(size_t piece, const std::vector<std::byte>& buffer)>& sink);

}  // namespace tsubu
