#include "pipeline/pieces.h"

#include "base/progress.h"

namespace tsubu {
namespace {

struct Slot {
  std::vector<std::byte> buffer;
  bool full = false;
};

}  // namespace

void run_in_order(ThreadPool& pool, size_t n_pieces, size_t n_slots,
                  const std::function<void(size_t, int, std::vector<std::byte>&)>& produce,
                  const std::function<void(size_t, const std::vector<std::byte>&)>& sink) {
  std::vector<Slot> slots(n_slots);
  std::mutex mutex;
  std::condition_variable slot_free;
  size_t next = 0;  // the piece the sink takes next; pieces below it are done
  bool draining = false, failed = false;

  const auto work = [&](size_t piece, int worker) {
    throw_if_interrupted(kNothingLeft);
    Slot& slot = slots[piece % n_slots];
    {
      // Pieces are handed out in increasing order, so the lowest unfinished one always has its slot: no deadlock.
      std::unique_lock lock(mutex);
      slot_free.wait(lock, [&] { return failed || piece < next + n_slots; });
      if (failed) return;
    }
    produce(piece, worker, slot.buffer);
    std::unique_lock lock(mutex);
    slot.full = true;
    if (draining || piece != next) return;  // whoever is draining, or completes `next`, will take this one
    draining = true;
    while (next < n_pieces && slots[next % n_slots].full && !failed) {
      Slot& ready = slots[next % n_slots];
      lock.unlock();
      sink(next, ready.buffer);
      lock.lock();
      ready.full = false;
      ++next;
      slot_free.notify_all();
    }
    draining = false;
  };
  pool.parallel_for(n_pieces, [&](size_t piece, int worker) {
    try {
      work(piece, worker);
    } catch (...) {
      {
        std::lock_guard lock(mutex);
        failed = true;
      }
      slot_free.notify_all();
      throw;
    }
  });
}

}  // namespace tsubu
