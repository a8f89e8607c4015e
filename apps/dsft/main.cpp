#include <filesystem>
#include <iostream>
#include <new>
#include <string>
#include <vector>

#include "base/error.h"
#include "dsft/command.h"
#include "dsft/usage_hints.h"
#include "io/path_error.h"

namespace {

using namespace dsft;

int print_error(const std::string& message, ErrorKind kind) {
  std::cout.flush();
  std::cerr << "error: " << message << std::endl;
  return static_cast<int>(kind);
}

/// Parses and runs; every failure is an exception.
int run(CLI::App& app, int argc, char** argv) {
  apps::CommandResult result;
  result.arguments.assign(argv + 1, argv + argc);
  apps::add_commands(app, result);
  apps::check_command_name(app, result.arguments);
  app.parse(argc, argv);
  if (!std::cout.flush()) fail(ErrorKind::kData, "the results could not be written to stdout (is the disk full?)");
  return result.exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("dsft: fine-tune Hugging Face language models from one YAML recipe", "dsft");
  app.set_version_flag("--version", "dsft " DSFT_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Examples:\n  dsft check recipe.yaml\n  dsft launch recipe.yaml training.learning_rate=1e-4\nHelp of one "
      "command: dsft COMMAND --help");
  try {
    return run(app, argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help and --version print here
    return print_error(apps::explain_usage_error(app, error), ErrorKind::kUsage);
  } catch (const Error& error) {
    return print_error(error.full_message(), error.kind());
  } catch (const std::filesystem::filesystem_error& error) {
    return print_error(io::path_error(error, ErrorKind::kCheckpoint).message(), ErrorKind::kCheckpoint);
  } catch (const std::bad_alloc&) {
    return print_error("out of memory", ErrorKind::kDevice);
  } catch (const std::exception& error) {
    return print_error(concat("internal error: ", error.what(),
                              ". This is a bug in dsft; please report it with the output of `dsft env`."),
                       ErrorKind::kInternal);
  }
}
