// Runs a parsed template.
#pragma once

#include <string>

#include "chat/ast.h"

namespace tsubu::chat {

// variables: what the template sees by name. Throws Error(kBadInput) with the line, also when the template refuses the
// messages (raise_exception) or does not come to an end.
std::string render(const Block& block, Entries variables, Context& context);

}  // namespace tsubu::chat
