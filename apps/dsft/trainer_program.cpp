#include "dsft/trainer_program.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/error.h"

namespace dsft::apps {

std::filesystem::path find_trainer() {
  if (const char* named = std::getenv("DSFT_TRAINER"); named && *named) {
    if (access(named, X_OK) != 0)
      fail(ErrorKind::kUsage, "DSFT_TRAINER names ", named, ", which cannot be run: ", std::strerror(errno));
    return named;
  }
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error)
    fail(ErrorKind::kUsage, "cannot tell where dsft lies (/proc/self/exe: ", error.message(),
         "); set DSFT_TRAINER to dsft-trainer's path");
  std::filesystem::path trainer = self.parent_path() / "dsft-trainer";
  if (access(trainer.c_str(), X_OK) != 0) {
    fail(ErrorKind::kUsage, trainer.string(), " cannot be run: ", std::strerror(errno),
         "; build it, or set DSFT_TRAINER to its path");
  }
  return trainer;
}

void run_trainer(const std::vector<std::string>& arguments) {
  const std::string trainer = find_trainer();
  std::vector<std::string> words = {trainer};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  execv(trainer.c_str(), argv.data());
  fail(ErrorKind::kUsage, "cannot start ", trainer, ": ", std::strerror(errno));
}

}  // namespace dsft::apps
