#include "base/error.h"

namespace dsft {

std::string Error::full_message() const {
  std::string text = message_;
  for (const std::string& line : context_) text += "\n  " + line;
  return text;
}

void fail_check(const char* condition, const char* file, int line, const std::string& message) {
  throw Error(ErrorKind::kInternal,
              concat("internal check failed: ", condition, " at ", file, ":", line, message.empty() ? "" : ": ",
                     message, ". This is a bug in dsft; please report it with the output of `dsft env`."));
}

}  // namespace dsft
