// Memory of this process, from Linux's /proc/self; 0 where there is none. Bytes.
#pragma once

#include <cstdint>

namespace tsubu {

// In memory now: its own and what it reads of mapped files.
uint64_t resident_bytes();
// What a program touches of its own code and allocates in small pieces after it was measured, for predictions: 2 MB were seen.
inline constexpr uint64_t kLaterBytes = uint64_t{4} << 20;
// The most that there was at once since the program started. Not getrusage's: that one keeps the peak of the process that
// started this one, across exec.
uint64_t peak_resident_bytes();
// From now on buffers of 128 KiB and more are mapped on their own (glibc: M_MMAP_THRESHOLD, which else grows with what is
// freed), so that they leave the process as soon as they are freed: what it takes is then the sum of what it holds.
void return_large_buffers();

}  // namespace tsubu
