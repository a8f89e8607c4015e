#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace dsft::apps {

/// Throws kUsage where the first argument names no command, with the nearest one.
void check_command_name(const CLI::App& app, const std::vector<std::string>& arguments);

/// A usage error of CLI11 as a sentence: the nearest option, or how a setting is written, and where the help is.
std::string explain_usage_error(const CLI::App& app, const CLI::ParseError& error);

}  // namespace dsft::apps
