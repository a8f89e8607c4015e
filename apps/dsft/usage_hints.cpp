#include "dsft/usage_hints.h"

#include "base/error.h"
#include "base/nearest_name.h"

namespace dsft::apps {
namespace {

/// The argument that CLI11 did not expect, or "".
std::string unexpected_argument(const std::string& message) {
  const size_t colon = message.rfind(": ");
  if (colon == std::string::npos) return "";
  const std::string rest = message.substr(colon + 2);
  return rest.substr(0, rest.find(' '));
}

std::string hint_of(const CLI::App& command, const std::string& argument) {
  const std::string name = argument.substr(0, argument.find('='));
  if (!name.starts_with("-")) {
    return argument.find('=') == std::string::npos ? "" : "; this command takes no settings";
  }
  if (name.find('.') != std::string::npos)
    return concat("; a setting is written without dashes: ", argument.substr(argument.find_first_not_of('-')));
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& long_name : option->get_lnames()) names.push_back("--" + long_name);
  }
  const std::string nearest = nearest_name(name, names);
  return nearest.empty() ? "" : concat("; did you mean ", nearest, "?");
}

}  // namespace

void check_command_name(const CLI::App& app, const std::vector<std::string>& arguments) {
  if (arguments.empty()) fail(ErrorKind::kUsage, "a command is needed; `dsft --help` lists them");
  const std::string& name = arguments.front();
  if (name.starts_with("-")) return;
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  for (const std::string& known : names) {
    if (known == name) return;
  }
  const std::string nearest = nearest_name(name, names);
  fail(ErrorKind::kUsage, "there is no command `", name, "`",
       nearest.empty() ? "" : concat("; did you mean `", nearest, "`?"),
       nearest.empty() ? "; `dsft --help` lists them" : "");
}

std::string explain_usage_error(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<CLI::App*> parsed = app.get_subcommands();
  const CLI::App& command = parsed.empty() ? app : *parsed.front();
  std::string message = error.what();
  if (dynamic_cast<const CLI::ExtrasError*>(&error)) message += hint_of(command, unexpected_argument(message));
  const std::string name = parsed.empty() ? "dsft" : "dsft " + command.get_name();
  return concat(message, "\n  `", name, " --help` shows what it takes");
}

}  // namespace dsft::apps
