#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

namespace dsft::test {

/// Where a committed file of test/fixtures lies.
inline std::filesystem::path fixture_path(const std::string& name) {
  return std::filesystem::path(DSFT_SOURCE_DIR) / "test/fixtures" / name;
}

/// All bytes of a committed file of test/fixtures.
inline std::string read_fixture(const std::string& name) {
  std::ifstream file(fixture_path(name), std::ios::binary);
  if (!file) throw std::runtime_error("no fixture " + name);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace dsft::test
