#pragma once

#include <string>

#include "base/error.h"

namespace dsft::apps {

/// What a task failed with, for the user.
struct Failure {
  std::string message;
  ErrorKind kind = ErrorKind::kInternal;
};

/// Describes the exception that is being handled: what dsft throws, exhausted memory of the GPU or the host, bugs.
Failure describe_current_exception();

}  // namespace dsft::apps
