#include "base/logger.h"

#include <cstdio>

namespace dsft {

void Logger::write(const std::string& prefix, const std::string& text) const {
  const std::string line = prefix + text + "\n";  // one write, so that lines of several ranks do not mix
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
}

}  // namespace dsft
