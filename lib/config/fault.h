#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace dsft::config {

/// The file name of values given as key.path=value on the command line.
inline constexpr const char* kCommandLine = "command line";

/// A place in a recipe. Overrides have the file kCommandLine and their number, from 1, as line.
struct Position {
  std::string file;
  int line = 0;    ///< from 1; 0: the file as a whole
  int column = 0;  ///< from 1
};

/// One thing wrong (or, as a warning, without effect) in a recipe.
struct Fault {
  Position position;
  std::string key;      ///< full path: "training.learning_rate"
  std::string message;  ///< what is wrong and what to write
};

/// Reading ends where there are so many faults: each of them takes memory, and nobody reads more.
inline constexpr size_t kMaxFaults = 200;

/// "recipe.yaml:12:3", "command line: override 2", or "recipe.yaml".
std::string to_string(const Position& position);

/// "recipe.yaml:12:3: training.learning_rate: must be ..."
std::string to_string(const Fault& fault);

/// Orders by file position, the command line last.
void sort_faults(std::vector<Fault>& faults);

/// Throws one kUsage error that lists all faults, one a line; returns where there is none.
void throw_faults(const std::vector<Fault>& faults);

}  // namespace dsft::config
