#include <sys/utsname.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>

#include "base/error.h"
#include "dsft/build_facts.h"
#include "dsft/command.h"
#include "dsft/gpu_list.h"
#include "dsft/trainer_program.h"
#include "spec/model_config.h"

namespace dsft::apps {
namespace {

using Json = nlohmann::ordered_json;

/// The value after a key in a file of "key<separator>value" lines, or "unknown".
std::string find_line(const char* file, const std::string& key, char separator) {
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    if (!line.starts_with(key)) continue;
    const size_t value = line.find_first_not_of(" \t\"", line.find(separator) + 1);
    if (value == std::string::npos) continue;
    const size_t end = line.find_last_not_of("\" \t");
    return line.substr(value, end + 1 - value);
  }
  return "unknown";
}

/// Where the PATH finds a program, or "not found".
std::string find_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string candidate = folder + "/" + name;
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return "not found";
}

std::string gibibytes(double bytes) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(1) << bytes / (1024.0 * 1024.0 * 1024.0) << " GiB";
  return text.str();
}

std::string describe_trainer() {
  try {
    return find_trainer().string();
  } catch (const Error& error) {
    return error.message();
  }
}

Json describe_gpus() {
  const GpuList list = list_gpus();
  Json gpus = Json::array();
  for (const Gpu& gpu : list.gpus)
    gpus.push_back({{"name", gpu.name}, {"memory", gibibytes(static_cast<double>(gpu.memory_bytes))}});
  std::string driver = list.driver.empty() ? "none" : list.driver;
  if (!list.problem.empty()) driver += " (" + list.problem + ")";
  return {{"driver", driver}, {"gpus", gpus}};
}

Json describe_environment() {
  utsname system{};
  uname(&system);
  const double memory = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  Json facts;
  facts["dsft"] = DSFT_VERSION;
  facts["build"] = DSFT_BUILD_TYPE ", " DSFT_BUILD_COMPILER;
  facts["libtorch"] = DSFT_BUILD_LIBTORCH;
  facts["cuda_built_in"] = std::string(DSFT_BUILD_CUDA) == "TRUE";
  facts["cuda"] = DSFT_BUILD_CUDA_VERSION;
  facts["nccl"] = DSFT_BUILD_NCCL;
  facts["attn_implementation"] = Json::array({"auto"});
  for (const std::string_view name : spec::kPeersAttention) facts["attn_implementation"].push_back(name);
  facts["mpi"] = DSFT_BUILD_MPI;
  facts["mpirun"] = find_program("mpirun");
  facts["trainer"] = describe_trainer();
  facts["system"] = find_line("/etc/os-release", "PRETTY_NAME", '=');
  facts["kernel"] = concat(system.sysname, " ", system.release, " ", system.machine);
  facts["cpu"] = find_line("/proc/cpuinfo", "model name", ':');
  facts["cores"] = std::thread::hardware_concurrency();
  facts["memory"] = gibibytes(memory);
  facts.update(describe_gpus());
  return facts;
}

void print_facts(const Json& facts) {
  for (const auto& [name, value] : facts.items()) {
    std::cout << name << std::string(22 - std::min<size_t>(name.size(), 21), ' ');
    if (value.is_string()) {
      std::cout << value.get<std::string>();
    } else if (value.is_boolean()) {
      std::cout << (value.get<bool>() ? "yes" : "no");
    } else if (name == "gpus") {
      std::cout << value.size();
      for (const Json& gpu : value)
        std::cout << "\n  " << gpu["name"].get<std::string>() << ", " << gpu["memory"].get<std::string>();
    } else {
      std::cout << value.dump();
    }
    std::cout << "\n";
  }
}

}  // namespace

void add_env_command(CLI::App& app, CommandResult&) {
  auto is_json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("env", "Versions, CPU, GPUs, MPI, NCCL: the first lines of a bug report");
  command->add_flag("--json", *is_json, "One JSON object on stdout");
  command->footer("Example:\n  dsft env");
  command->callback([is_json] {
    const Json facts = describe_environment();
    if (*is_json) {
      std::cout << facts.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
    } else {
      print_facts(facts);
    }
  });
}

}  // namespace dsft::apps
