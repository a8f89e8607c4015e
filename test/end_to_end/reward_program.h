#pragma once

#include <sstream>
#include <string>

#include "support/temp_dir.h"

namespace dsft::test {

/// Writes <name>.py into a folder, a reward program by the protocol of docs/rewards.md: of each request `r` these lines
/// of Python set the list `rewards`. Gives its command.
inline std::string write_reward_program(const TempDir& folder, const std::string& name, const std::string& lines) {
  std::string program = "import json, os, signal, sys, time\nprint(json.dumps({'protocol': 1, 'name': '" + name +
                        "'}), flush=True)\nfor line in sys.stdin:\n  r = json.loads(line)\n";
  std::istringstream in(lines);
  for (std::string line; std::getline(in, line);) program += "  " + line + "\n";
  program += "  print(json.dumps({'id': r['id'], 'rewards': rewards}), flush=True)\n";
  return "python3 " + folder.write(name + ".py", program).string();
}

}  // namespace dsft::test
