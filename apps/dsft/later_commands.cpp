#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "dsft/command.h"

namespace dsft::apps {
namespace {

void add_later_command(CLI::App& app, const std::string& name, const std::string& comes_with) {
  // no group: the help shows only what can be used
  CLI::App* command = app.add_subcommand(name, "Not built yet: comes with " + comes_with)->group("");
  command->allow_extras();
  command->callback([name, comes_with] {
    fail(ErrorKind::kUsage, "`dsft ", name, "` is not built yet: it comes with ", comes_with);
  });
}

}  // namespace

void add_later_commands(CLI::App& app, CommandResult&) {
  add_later_command(app, "chat", "the chat and report tools");
}

}  // namespace dsft::apps
