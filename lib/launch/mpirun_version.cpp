#include "launch/mpirun_version.h"

#include <cstdlib>
#include <string>

#include "base/error.h"
#include "process/child.h"

namespace dsft::launch {

int parse_open_mpi_major(std::string_view text) {
  constexpr std::string_view kNames[] = {"(Open MPI) ", "(OpenRTE) "};
  for (const std::string_view name : kNames) {
    const size_t begin = text.find(name);
    if (begin != std::string_view::npos) return std::atoi(std::string(text.substr(begin + name.size())).c_str());
  }
  return 0;
}

int find_open_mpi_major() {
  std::string text;
  process::ChildOptions options{.argv = {"mpirun", "--version"}, .environment = {}};
  options.on_line = [&](process::Stream, std::string_view line) { (text += line) += "\n"; };
  process::Child(std::move(options)).wait();
  const int major = parse_open_mpi_major(text);
  if (major < 4) {
    fail(ErrorKind::kUsage,
         "the mpirun on PATH is not Open MPI 4 or later, but says: ", text.substr(0, text.find('\n')),
         "; install Open MPI (Debian: openmpi-bin), or put its mpirun first on PATH");
  }
  return major;
}

}  // namespace dsft::launch
