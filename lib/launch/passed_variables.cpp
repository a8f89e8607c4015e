#include "launch/passed_variables.h"

#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <string_view>

namespace dsft::launch {
namespace {

bool is_host_variable(std::string_view name) {
  static constexpr std::string_view kNames[] = {"_",        "CUDA_VISIBLE_DEVICES",
                                                "DISPLAY",  "DSFT_WATCHDOG",
                                                "HOST",     "HOSTNAME",
                                                "OLDPWD",   "PWD",
                                                "SHLVL",    "TMUX",
                                                "TMUX_PANE"};
  static constexpr std::string_view kPrefixes[] = {"BASH_FUNC_", "DBUS_",  "OMPI_",       "OPAL_", "ORTE_",
                                                   "PBS_",       "PMI_",   "PMIX_",       "PRTE_", "SLURM",
                                                   "SSH_",       "XDG_SE", "XDG_RUNTIME_"};
  const auto begins = [&](std::string_view prefix) { return name.starts_with(prefix); };
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames) ||
         std::any_of(std::begin(kPrefixes), std::end(kPrefixes), begins);
}

}  // namespace

std::vector<std::string> variables_for_other_hosts(const std::vector<std::string>& names) {
  std::vector<std::string> passed;
  std::copy_if(names.begin(), names.end(), std::back_inserter(passed), [](const std::string& name) {
    return !name.empty() && name.find_first_of("%() ") == std::string::npos && !is_host_variable(name);
  });
  std::sort(passed.begin(), passed.end());
  return passed;
}

std::vector<std::string> environment_names() {
  std::vector<std::string> names;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    names.emplace_back(text.substr(0, text.find('=')));
  }
  return names;
}

}  // namespace dsft::launch
