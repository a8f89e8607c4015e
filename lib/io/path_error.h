#pragma once

#include <filesystem>

#include "base/error.h"

namespace dsft::io {

/// What the standard library says of a path that the system does not take (too long, a circle of links, no permission),
/// as an error of the user's.
inline Error path_error(const std::filesystem::filesystem_error& error, ErrorKind kind) {
  return {kind, concat(error.path1().string(), " cannot be reached: ", error.code().message(),
                       ". Check the path, its links and its permissions.")};
}

}  // namespace dsft::io
