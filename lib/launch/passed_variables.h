#pragma once

#include <string>
#include <vector>

namespace dsft::launch {

/// The names of those variables that other hosts get: all but the ones that describe a host or a login, and those by
/// which mpirun and batch systems talk to their own processes.
std::vector<std::string> variables_for_other_hosts(const std::vector<std::string>& names);

/// The names of all variables of this process.
std::vector<std::string> environment_names();

}  // namespace dsft::launch
