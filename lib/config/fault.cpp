#include "config/fault.h"

#include <algorithm>
#include <tuple>

#include "base/error.h"

namespace dsft::config {

std::string to_string(const Position& position) {
  if (position.file == kCommandLine) return concat(position.file, ": override ", position.line);
  if (position.line == 0) return position.file;
  return concat(position.file, ":", position.line, ":", position.column);
}

std::string to_string(const Fault& fault) {
  return concat(to_string(fault.position), ": ", fault.key.empty() ? "" : fault.key + ": ", fault.message);
}

void sort_faults(std::vector<Fault>& faults) {
  const auto order = [](const Fault& fault) {
    return std::tuple(fault.position.file == kCommandLine, fault.position.line, fault.position.column);
  };
  std::stable_sort(faults.begin(), faults.end(), [&](const Fault& a, const Fault& b) { return order(a) < order(b); });
}

void throw_faults(const std::vector<Fault>& faults) {
  if (faults.empty()) return;
  std::string message;
  if (faults.size() > 1) message = concat(faults.size(), " faults in the recipe:\n");
  for (size_t i = 0; i < faults.size(); ++i) message += (i > 0 ? "\n" : "") + to_string(faults[i]);
  throw Error(ErrorKind::kUsage, message);
}

}  // namespace dsft::config
