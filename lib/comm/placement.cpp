#include "comm/placement.h"

#include <charconv>
#include <cstdlib>
#include <cstring>

#include "base/error.h"

namespace dsft::comm {
namespace {

int read_variable(const char* name, int fallback) {
  const char* text = std::getenv(name);
  if (text == nullptr) return fallback;
  int value = 0;
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  if (error != std::errc() || stop != end || value < 0) {
    fail(ErrorKind::kCommunication, "the environment variable ", name, " is '", text,
         "', not a number; it is set by mpirun: unset it, or start through `dsft launch`");
  }
  return value;
}

}  // namespace

Placement read_placement() {
  Placement placement;
  placement.size = read_variable("OMPI_COMM_WORLD_SIZE", 1);
  if (placement.size <= 1) return {};
  placement.rank = read_variable("OMPI_COMM_WORLD_RANK", 0);
  placement.local_rank = read_variable("OMPI_COMM_WORLD_LOCAL_RANK", 0);
  placement.local_size = read_variable("OMPI_COMM_WORLD_LOCAL_SIZE", placement.size);
  return placement;
}

}  // namespace dsft::comm
