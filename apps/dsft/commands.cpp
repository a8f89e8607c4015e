#include "dsft/command.h"

namespace dsft::apps {

void add_commands(CLI::App& app, CommandResult& result) {
  // one line a command, in the order of the help
  constexpr AddCommand kCommands[] = {
      add_launch_command,    //
      add_trainer_commands,  //
      add_check_command,     //
      add_estimate_memory_command,
      add_preview_command,   //
      add_tokenize_command,  //
      add_recipes_command,   //
      add_env_command,       //
      add_later_commands,    //
  };
  for (const AddCommand add : kCommands) add(app, result);
}

}  // namespace dsft::apps
