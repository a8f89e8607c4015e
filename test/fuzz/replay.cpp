// Runs a fuzz target on each file of the folders given (a folder may be absent), as an ordinary test: without
// libFuzzer, by any compiler.
#include <sys/resource.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <iostream>
#include <vector>

#include "fuzz/fuzz.h"
#include "support/temp_dir.h"

namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr double kMaxSeconds = 20;
#else
constexpr double kMaxSeconds = 3;  // a chat template stops itself after 2
#endif
constexpr long kMaxResidentKib = 512 << 10;

double cpu_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

/// Whether the target took the input within its bounds; says what was wrong.
bool replay(const std::filesystem::path& file) {
  std::cout << file.string() << std::endl;  // at once, so that a crash comes after the name of its input
  const std::string input = dsft::test::read_file(file);
  const double start = cpu_seconds();
  try {
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
  } catch (const std::exception& error) {
    std::cout << "  finding: threw " << error.what() << std::endl;
    return false;
  }
  const double seconds = cpu_seconds() - start;
  if (seconds > kMaxSeconds) std::cout << "  finding: took " << seconds << " s" << std::endl;
  return seconds <= kMaxSeconds;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::filesystem::path> files;
  for (int i = 1; i < argc; ++i) {
    if (!std::filesystem::exists(argv[i])) continue;
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  const auto num_good = std::count_if(files.begin(), files.end(), replay);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const bool is_small = usage.ru_maxrss <= kMaxResidentKib;
  if (!is_small) std::cout << "finding: " << usage.ru_maxrss / 1024 << " MiB of memory" << std::endl;
  if (files.empty()) std::cout << "no inputs" << std::endl;
  return !files.empty() && is_small && static_cast<size_t>(num_good) == files.size() ? 0 : 1;
}
