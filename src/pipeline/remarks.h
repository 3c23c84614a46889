// What making a file says in sentences: one list, which page/words.cc translates.
#pragma once

#include "base/remark.h"

namespace tsubu {

inline constexpr RemarkKind kPipelineRemarks[] = {
    {"fit.held_out", "measured on {0} tokens of {1} windows behind those that were rounded with"},
    {"fit.judged",
     "measured on {0} tokens of {1} windows that rounding judges by but does not learn from (give more text)"},
};

consteval const RemarkKind& operator""_made(const char* id, size_t n) { return kind_in(kPipelineRemarks, {id, n}); }

}  // namespace tsubu
