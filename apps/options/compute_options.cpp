#include "options/compute_options.h"

#include <string>
#include <vector>

namespace dsft::apps {
namespace {

/// Adds an option that takes one word of an enum's table.
template <typename E, typename Target>
CLI::Option* add_word_option(CLI::App& command, const std::string& name, Target& target, const std::string& help) {
  std::vector<std::string> words;
  for (const auto& word : words_of(E{})) words.emplace_back(word.text);
  return command
      .add_option_function<std::string>(
          name, [&target](const std::string& text) { target = *config::from_word<E>(text); }, help)
      ->check(CLI::IsMember(words));
}

}  // namespace

void add_dtype_option(CLI::App& command, std::optional<spec::ComputeDtype>& dtype, const std::string& help) {
  add_word_option<spec::ComputeDtype>(command, "--dtype", dtype, help);
}

void add_compute_options(CLI::App& command, ComputeOptions& options, const std::string& default_dtype,
                         const std::string& default_device) {
  add_dtype_option(command, options.dtype, "Type of weights and arithmetic (default: " + default_dtype + ")");
  add_word_option<device::DeviceChoice>(command, "--device", options.device,
                                        "Where to compute (default: " + default_device + ")");
}

}  // namespace dsft::apps
