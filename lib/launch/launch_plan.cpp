#include "launch/launch_plan.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "launch/passed_variables.h"

namespace dsft::launch {
namespace {

constexpr std::string_view kSafeCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=:,+@%";

bool runs_on_cpu(const LaunchRequest& request) {
  return request.num_procs || request.device == device::DeviceChoice::kCpu;
}

bool has_choice(const LaunchRequest& request) {
  return !request.include.empty() || !request.exclude.empty();
}

void check_request(const LaunchRequest& request) {
  if (request.num_procs && *request.num_procs < 1) {
    fail(ErrorKind::kUsage, "--num-procs is ", *request.num_procs, "; it must be at least 1");
  }
  if (request.num_gpus && *request.num_gpus < 1) {
    fail(ErrorKind::kUsage, "--num-gpus is ", *request.num_gpus, "; it must be at least 1");
  }
  if (request.num_gpus && request.num_procs) {
    fail(ErrorKind::kUsage, "--num-gpus and --num-procs contradict each other; write one");
  }
  if (request.num_procs && request.device == device::DeviceChoice::kCuda) {
    fail(ErrorKind::kUsage, "--num-procs starts CPU ranks, but the recipe says device: cuda; use --num-gpus");
  }
  if (request.num_gpus && request.device == device::DeviceChoice::kCpu) {
    fail(ErrorKind::kUsage, "--num-gpus starts one rank per GPU, but the recipe says device: cpu; use --num-procs");
  }
  if (request.num_gpus && has_choice(request)) {
    fail(ErrorKind::kUsage, "--num-gpus contradicts --include and --exclude, which choose the GPUs; write one");
  }
}

/// The Accelerate file's ranks, where no option says how many.
const ImportedRanks* imported_ranks(const LaunchRequest& request) {
  const bool has_option = request.num_gpus || request.num_procs || has_choice(request);
  return request.imported_ranks && !has_option ? &*request.imported_ranks : nullptr;
}

std::string name_of(const ImportedRanks& ranks) {
  return concat(config::to_string(ranks.position), ": num_processes ", ranks.number);
}

int num_local_ranks(const LaunchRequest& request, const Machine& machine) {
  const ImportedRanks* imported = imported_ranks(request);
  if (request.device == device::DeviceChoice::kCpu) return imported ? imported->number : 1;
  const bool needs_gpu =
      request.num_gpus || request.device == device::DeviceChoice::kCuda || (imported && imported->number > 1);
  const int num_ranks = request.num_gpus.value_or(imported ? imported->number : std::max(1, machine.num_visible_gpus));
  if (needs_gpu && num_ranks > machine.num_visible_gpus) {
    fail(ErrorKind::kDevice, imported ? name_of(*imported) + ": " : "", num_ranks,
         num_ranks == 1 ? " GPU is" : " GPUs are", " asked for, but ", machine.num_visible_gpus,
         " can be used here: see `dsft env`, nvidia-smi and CUDA_VISIBLE_DEVICES; without GPUs use device=cpu");
  }
  return num_ranks;
}

/// The GPUs of this machine that --include and --exclude leave.
std::vector<Host> choose_local_gpus(const LaunchRequest& request, const Machine& machine) {
  const std::string option = request.include.empty() ? "--exclude" : "--include";
  if (request.num_procs || request.device == device::DeviceChoice::kCpu) {
    fail(ErrorKind::kUsage, option,
         " chooses GPUs of this machine, but CPU ranks are asked for; leave it out, or name "
         "hosts by --hostfile");
  }
  if (!machine.gpu_numbers) {
    fail(ErrorKind::kUsage, option, " chooses GPUs by number, but CUDA_VISIBLE_DEVICES=", *machine.cuda_visible_devices,
         " names them otherwise; choose by one of the two");
  }
  if (machine.gpu_numbers->empty()) {
    fail(ErrorKind::kDevice, option,
         " chooses GPUs, but none can be used here: see `dsft env`, nvidia-smi and "
         "CUDA_VISIBLE_DEVICES");
  }
  const std::string source = machine.cuda_visible_devices ? "CUDA_VISIBLE_DEVICES=" + *machine.cuda_visible_devices
                                                          : std::string("this machine (without --hostfile)");
  return select_slots({{"localhost", *machine.gpu_numbers}}, request.include, request.exclude, source);
}

std::string join_slots(const std::vector<int>& slots) {
  std::string text;
  for (int slot : slots) text += concat(text.empty() ? "" : ",", slot);
  return text;
}

/// Whether the Accelerate file chooses the GPUs.
bool uses_imported_gpus(const LaunchRequest& request, const Machine& machine) {
  return request.imported_gpus && request.hosts.empty() && !has_choice(request) && !machine.cuda_visible_devices &&
         !runs_on_cpu(request);
}

/// As many of them as there are ranks.
std::vector<Host> take_imported_gpus(const LaunchRequest& request, const Machine& machine) {
  std::vector<int> numbers = request.imported_gpus->numbers;
  const std::string place = config::to_string(request.imported_gpus->position) + ": gpu_ids";
  const std::vector<int> there = machine.gpu_numbers.value_or(std::vector<int>());
  for (const int number : numbers) {
    if (std::find(there.begin(), there.end(), number) != there.end()) continue;
    fail(ErrorKind::kDevice, place, " names GPU ", number, ", but ",
         there.empty() ? "no GPU can be used here" : "those here are " + join_slots(there),
         ": see `dsft env`; \"all\" takes those that are there, device=cpu none");
  }
  const ImportedRanks* imported = imported_ranks(request);
  const auto num_gpus = static_cast<int>(numbers.size());
  const int num_ranks = request.num_gpus.value_or(imported ? imported->number : num_gpus);
  if (num_ranks > num_gpus) {
    fail(ErrorKind::kUsage, place, " names ", num_gpus, num_gpus == 1 ? " GPU" : " GPUs", ", fewer than ",
         imported ? name_of(*imported) : concat("--num-gpus ", num_ranks), ", and a rank takes one");
  }
  numbers.resize(static_cast<size_t>(num_ranks));
  return {{"localhost", std::move(numbers)}};
}

/// Says why the GPUs that an Accelerate file names are not used.
std::string explain_unused_gpus(const LaunchRequest& request, const Machine& machine) {
  const std::string what = config::to_string(request.imported_gpus->position) + ": gpu_ids is not used: ";
  if (!request.hosts.empty()) return concat(what, "the slots of ", request.hostfile, " are the GPUs of its hosts");
  if (has_choice(request)) return what + (request.include.empty() ? "--exclude" : "--include") + " chooses the GPUs";
  return concat(what, "CUDA_VISIBLE_DEVICES=", *machine.cuda_visible_devices, " chooses the GPUs");
}

/// The first `count` slots of each host.
std::vector<Host> first_of_each(std::vector<Host> hosts, int count) {
  for (Host& host : hosts) {
    if (count > static_cast<int>(host.slots.size())) {
      fail(ErrorKind::kUsage, "--num-gpus ", count, " is for each host, but ", describe_hosts({host}),
           " has fewer; lower it, or leave it out to use all slots");
    }
    host.slots.resize(static_cast<size_t>(count));
  }
  return hosts;
}

/// The first `count` slots of all hosts, as `asked_by` says.
std::vector<Host> first_of_all(std::vector<Host> hosts, int count, const std::string& asked_by,
                               const std::string& hostfile) {
  if (count > count_slots(hosts)) {
    fail(ErrorKind::kUsage, asked_by, " is more than the ", count_slots(hosts), " slots of ", hostfile,
         " that may be used: ", describe_hosts(hosts));
  }
  for (Host& host : hosts) {
    host.slots.resize(std::min(host.slots.size(), static_cast<size_t>(count)));
    count -= static_cast<int>(host.slots.size());
  }
  std::erase_if(hosts, [](const Host& host) { return host.slots.empty(); });
  return hosts;
}

std::vector<Host> choose_hosts(const LaunchRequest& request, const Machine& machine) {
  if (request.hosts.empty()) {
    if (has_choice(request)) return choose_local_gpus(request, machine);
    return uses_imported_gpus(request, machine) ? take_imported_gpus(request, machine) : std::vector<Host>{};
  }
  std::vector<Host> hosts = select_slots(request.hosts, request.include, request.exclude, request.hostfile);
  if (request.num_gpus) return first_of_each(std::move(hosts), *request.num_gpus);
  if (request.num_procs) {
    return first_of_all(std::move(hosts), *request.num_procs, concat("--num-procs ", *request.num_procs),
                        request.hostfile);
  }
  if (const ImportedRanks* imported = imported_ranks(request))
    return first_of_all(std::move(hosts), imported->number, name_of(*imported), request.hostfile);
  return hosts;
}

/// Whether a host's slots are not just the first GPUs, so that its ranks have to be told.
bool needs_visible_devices(const Host& host, const Machine& machine) {
  for (size_t i = 0; i < host.slots.size(); ++i) {
    if (host.slots[i] != static_cast<int>(i)) return true;
  }
  return machine.cuda_visible_devices.has_value();
}

/// The trainer and its arguments.
std::vector<std::string> trainer_words(const LaunchRequest& request) {
  std::vector<std::string> words = {request.trainer, "train", request.recipe};
  words.insert(words.end(), request.overrides.begin(), request.overrides.end());
  if (request.num_procs && request.device == device::DeviceChoice::kAuto) words.push_back("device=cpu");
  return words;
}

/// -x options: what every rank gets beside the caller's variables, and these where other hosts would not have them.
std::vector<std::string> exported(const LaunchPlan& plan, const Machine& machine, int ranks_per_host) {
  std::vector<std::string> words;
  const auto add = [&](const std::string& value) { words.insert(words.end(), {"-x", value}); };
  if (!machine.has_omp_num_threads) {
    add(concat("OMP_NUM_THREADS=", std::max(1, machine.num_cores / ranks_per_host)));
  }
  // threads that spin while they wait take the cores from the other ranks
  if (!machine.has_omp_wait_policy) add("OMP_WAIT_POLICY=passive");
  // each rank of a host takes its share of the cores for itself
  if (!machine.has_bind_cores) add("DSFT_BIND_CORES=1");
  if (!plan.has_remote_hosts) return words;
  for (const std::string& name : variables_for_other_hosts(machine.variables)) add(name);
  add("DSFT_WATCHDOG");
  return words;
}

int most_slots(const std::vector<Host>& hosts) {
  size_t most = 0;
  for (const Host& host : hosts) most = std::max(most, host.slots.size());
  return static_cast<int>(most);
}

/// Whether a host has a domain in its name: "node7.cluster.example", but no IP address.
bool has_domain(const Host& host) {
  return host.name.find('.') != std::string::npos && host.name.find_first_not_of("0123456789.") != std::string::npos;
}

/// mpirun with its options for the whole job. Ranks bind themselves, so that it works the same under every launcher
/// and where a container has fewer cores than mpirun sees.
std::vector<std::string> mpirun_words(const LaunchPlan& plan, const Machine& machine, const std::vector<Host>& hosts) {
  const bool is_new = machine.open_mpi_major() >= 5;
  std::vector<std::string> words = {"mpirun"};
  if (machine.is_root) words.push_back("--allow-run-as-root");
  if (plan.has_remote_hosts) {
    words.insert(words.end(), {"--map-by", "slot"});
  } else if (is_new) {
    words.insert(words.end(), {"--map-by", ":OVERSUBSCRIBE"});
  } else {
    words.push_back("--oversubscribe");  // more ranks than cores are the user's choice
  }
  // Open MPI 4 goes to node7 otherwise, which may be no name at all, or that of another host
  if (!is_new && plan.has_remote_hosts && std::any_of(hosts.begin(), hosts.end(), has_domain))
    words.insert(words.end(), {"--mca", "orte_keep_fqdn_hostnames", "1"});
  words.insert(words.end(), {"--bind-to", "none"});
  if (is_new)
    words.insert(words.end(), {"--output", "tag"});
  else
    words.push_back("--tag-output");
  return words;
}

/// One application context for all hosts, or one for each where they have other GPUs.
void add_hosts(std::vector<std::string>& argv, const LaunchRequest& request, const Machine& machine,
               const LaunchPlan& plan, const std::vector<Host>& hosts) {
  const std::vector<std::string> exports = exported(plan, machine, most_slots(hosts));
  const std::vector<std::string> trainer = trainer_words(request);
  const auto add = [&](const std::vector<std::string>& words) { argv.insert(argv.end(), words.begin(), words.end()); };
  const auto place = [](const Host& host) { return concat(host.name, ":", host.slots.size()); };
  const bool tells_gpus = !runs_on_cpu(request) && std::any_of(hosts.begin(), hosts.end(), [&](const Host& host) {
    return needs_visible_devices(host, machine);
  });
  if (!tells_gpus) {
    std::string places;
    for (const Host& host : hosts) places += (places.empty() ? "" : ",") + place(host);
    add({"--host", places, "-n", std::to_string(plan.num_ranks)});
    add(exports);
    add(trainer);
    return;
  }
  for (const Host& host : hosts) {
    if (&host != &hosts.front()) argv.push_back(":");
    add({"--host", place(host), "-n", std::to_string(host.slots.size()), "-x",
         "CUDA_VISIBLE_DEVICES=" + join_slots(host.slots)});
    add(exports);
    add(trainer);
  }
}

}  // namespace

LaunchPlan plan_launch(const LaunchRequest& request, const Machine& machine) {
  check_request(request);
  const std::vector<Host> hosts = choose_hosts(request, machine);
  const auto is_remote = [&](const Host& host) { return !is_this_machine(host.name, machine.host_name); };
  LaunchPlan plan;
  plan.has_remote_hosts = std::any_of(hosts.begin(), hosts.end(), is_remote);
  if (!hosts.empty())
    plan.num_ranks = count_slots(hosts);
  else
    plan.num_ranks = request.num_procs ? *request.num_procs : num_local_ranks(request, machine);
  if (request.imported_gpus && !runs_on_cpu(request) && !uses_imported_gpus(request, machine))
    plan.warnings.push_back(explain_unused_gpus(request, machine));
  if (!request.hosts.empty() && machine.cuda_visible_devices && !runs_on_cpu(request)) {
    plan.warnings.push_back(concat("CUDA_VISIBLE_DEVICES=", *machine.cuda_visible_devices,
                                   " is not used: the slots of ", request.hostfile, " are the GPUs of its hosts"));
  }
  // several names of this machine are one machine
  std::vector<int> slots;
  for (const Host& host : hosts)
    if (!is_remote(host)) slots.insert(slots.end(), host.slots.begin(), host.slots.end());
  if (!runs_on_cpu(request) && std::set<int>(slots.begin(), slots.end()).size() < slots.size())
    fail(ErrorKind::kUsage, request.hostfile, " names this machine more than once, as ", describe_hosts(hosts),
         ": the same GPUs would have several ranks; write one line with all of its slots");
  if (plan.uses_mpi()) plan.argv = mpirun_words(plan, machine, hosts);
  if (plan.has_remote_hosts) {
    add_hosts(plan.argv, request, machine, plan, hosts);
    return plan;
  }
  if (!slots.empty() && !runs_on_cpu(request) && needs_visible_devices({"", slots}, machine)) {
    plan.environment.emplace_back("CUDA_VISIBLE_DEVICES", join_slots(slots));
  }
  if (plan.uses_mpi()) {
    plan.argv.insert(plan.argv.end(), {"-n", std::to_string(plan.num_ranks)});
    const std::vector<std::string> exports = exported(plan, machine, plan.num_ranks);
    plan.argv.insert(plan.argv.end(), exports.begin(), exports.end());
  }
  const std::vector<std::string> trainer = trainer_words(request);
  plan.argv.insert(plan.argv.end(), trainer.begin(), trainer.end());
  return plan;
}

std::string to_shell_line(const LaunchPlan& plan) {
  std::vector<std::string> words;
  for (const auto& [name, value] : plan.environment) words.push_back(name + "=" + value);
  words.insert(words.end(), plan.argv.begin(), plan.argv.end());
  return to_shell_line(words);
}

std::string to_shell_line(const std::vector<std::string>& argv) {
  std::string line;
  for (const std::string& word : argv) {
    if (!line.empty()) line += ' ';
    if (!word.empty() && word.find_first_not_of(kSafeCharacters) == std::string::npos) {
      line += word;
      continue;
    }
    line += '\'';
    for (char c : word) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += '\'';
  }
  return line;
}

}  // namespace dsft::launch
