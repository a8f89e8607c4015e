#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace dsft::apps {

/// The program that computes: DSFT_TRAINER, or dsft-trainer beside this program. Throws kUsage where it is not there.
std::filesystem::path find_trainer();

/// Replaces this process by dsft-trainer with these arguments. Does not return; throws kUsage where that fails.
[[noreturn]] void run_trainer(const std::vector<std::string>& arguments);

}  // namespace dsft::apps
