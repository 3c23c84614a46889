// Which tokens end a reply: those the vocabulary names, and those that models of the field use under well-known names.
#pragma once

#include <vector>

#include "text/vocabulary.h"

namespace tsubu {

// One flag per id.
std::vector<bool> end_of_generation_flags(const Vocabulary& vocabulary);

}  // namespace tsubu
