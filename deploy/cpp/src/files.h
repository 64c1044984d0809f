// Files that a reader sees as they were, or whole.
#pragma once

#include <string>

namespace adnext {

// Throws UserError, which begins with `name`: there is no such folder, or the disk is full.
void write_whole(const std::string& bytes, const std::string& path, const std::string& name);

}  // namespace adnext
