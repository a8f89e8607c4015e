#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "io/file.h"

namespace dsft::io {

/// What an output's path leads to.
struct OutputTarget {
  std::filesystem::path path;  ///< links followed, so that a link stays one
  /// A regular file, or none yet: written under a temporary name that takes its place. A device, a pipe, or an open
  /// file of a process (/dev/stdout) is written as it is.
  bool is_replaced = true;
};

/// Follows the links of an output's path. Throws `kind` for a ring of links, and where there
/// is no such folder.
OutputTarget resolve_output(const std::filesystem::path& path, ErrorKind kind);

/// Opens what is not to be replaced, for writing at its end; waits for a pipe's reader.
FileDescriptor open_in_place(const OutputTarget& target, ErrorKind kind);

/// Throws kUsage where writing `output` would destroy what the command reads: one of the files of `inputs`, or a model
/// file (.json, .safetensors, .jinja, .txt, .model) in the folders among them, also by another name. `option` is what
/// the user wrote it as; an empty input is none.
void require_no_input(const std::string& option, const std::filesystem::path& output,
                      const std::vector<std::filesystem::path>& inputs);

}  // namespace dsft::io
