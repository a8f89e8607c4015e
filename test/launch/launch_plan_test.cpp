#include "launch/launch_plan.h"

#include "catch_amalgamated.hpp"
#include "launch/own_cores.h"
#include "launch/passed_variables.h"
#include "launch/visible_gpus.h"
#include "support/require_error.h"

using namespace dsft;
using device::DeviceChoice;
using launch::LaunchRequest;
using launch::Machine;

namespace {

const LaunchRequest kRequest{.trainer = "/bin/dsft-trainer", .recipe = "a.yaml", .overrides = {"seed=1"}};

std::string line_of(const LaunchRequest& request, const Machine& machine = {.num_cores = 8}) {
  return launch::to_shell_line(launch::plan_launch(request, machine));
}

LaunchRequest with_procs(int num_procs, DeviceChoice device = DeviceChoice::kAuto) {
  LaunchRequest request = kRequest;
  request.num_procs = num_procs;
  request.device = device;
  return request;
}

LaunchRequest with_gpus(int num_gpus, DeviceChoice device = DeviceChoice::kAuto) {
  LaunchRequest request = kRequest;
  request.num_gpus = num_gpus;
  request.device = device;
  return request;
}

}  // namespace

TEST_CASE("One process needs no mpirun", "[launch]") {
  const std::string plain = "/bin/dsft-trainer train a.yaml seed=1";
  REQUIRE(line_of(kRequest) == plain);
  REQUIRE(line_of(kRequest, {.num_visible_gpus = 1}) == plain);
  REQUIRE(line_of(with_gpus(1), {.num_visible_gpus = 4}) == plain);
  REQUIRE(line_of(with_procs(1)) == plain + " device=cpu");
  REQUIRE(line_of(with_procs(1, DeviceChoice::kCpu)) == plain);
}

TEST_CASE("CPU ranks share the cores under mpirun", "[launch]") {
  REQUIRE(line_of(with_procs(2)) ==
          "mpirun --oversubscribe --bind-to none --tag-output -n 2 -x OMP_NUM_THREADS=4 -x OMP_WAIT_POLICY=passive -x "
          "DSFT_BIND_CORES=1 /bin/dsft-trainer train a.yaml seed=1 device=cpu");
  REQUIRE(line_of(with_procs(16, DeviceChoice::kCpu), {.num_cores = 8, .is_root = true}) ==
          "mpirun --allow-run-as-root --oversubscribe --bind-to none --tag-output -n 16 -x OMP_NUM_THREADS=1 -x "
          "OMP_WAIT_POLICY=passive -x DSFT_BIND_CORES=1 /bin/dsft-trainer train a.yaml seed=1");
}

TEST_CASE("Open MPI 5 has other words for the same", "[launch]") {
  REQUIRE(line_of(with_procs(2), {.num_cores = 8, .open_mpi_major = [] { return 5; }}) ==
          "mpirun --map-by :OVERSUBSCRIBE --bind-to none --output tag -n 2 -x OMP_NUM_THREADS=4 -x "
          "OMP_WAIT_POLICY=passive -x DSFT_BIND_CORES=1 /bin/dsft-trainer train a.yaml seed=1 device=cpu");
}

TEST_CASE("Hosts get a rank per slot, and the caller's variables", "[launch]") {
  LaunchRequest request = kRequest;
  request.hosts = launch::parse_hostfile("node1 slots=2\nnode2 slots=2\n", "hosts");
  request.hostfile = "hosts";
  const Machine machine{
      .num_cores = 8, .host_name = "node1", .variables = {"NCCL_DEBUG", "PATH", "HOSTNAME", "MY_OWN"}};
  const std::string before = "mpirun --map-by slot --bind-to none --tag-output ";
  const std::string exports =
      "-x OMP_NUM_THREADS=4 -x OMP_WAIT_POLICY=passive -x DSFT_BIND_CORES=1 -x MY_OWN -x NCCL_DEBUG -x PATH -x "
      "DSFT_WATCHDOG ";
  const std::string trainer = "/bin/dsft-trainer train a.yaml seed=1";
  REQUIRE(line_of(request, machine) == before + "--host node1:2,node2:2 -n 4 " + exports + trainer);
  REQUIRE(launch::plan_launch(request, machine).num_ranks == 4);

  LaunchRequest two = request;
  two.include = "node2:1@node1:0,1";
  REQUIRE(line_of(two, machine) == before + "--host node1:2 -n 2 -x CUDA_VISIBLE_DEVICES=0,1 " + exports + trainer +
                                       " : --host node2:1 -n 1 -x CUDA_VISIBLE_DEVICES=1 " + exports + trainer);

  LaunchRequest one_each = request;
  one_each.num_gpus = 1;
  CHECK_THAT(line_of(one_each, machine), Catch::Matchers::ContainsSubstring("--host node1:1,node2:1 -n 2 "));
  LaunchRequest cpu = request;
  cpu.num_procs = 3;
  CHECK_THAT(line_of(cpu, machine), Catch::Matchers::ContainsSubstring("--host node1:2,node2:1 -n 3 ") &&
                                        Catch::Matchers::EndsWith(" device=cpu"));
  cpu.exclude = "node1";
  CHECK_THROWS(line_of(cpu, machine));

  Machine hides = machine;
  hides.cuda_visible_devices = "3";
  CHECK_THAT(line_of(request, hides),
             Catch::Matchers::ContainsSubstring("--host node2:2 -n 2 -x CUDA_VISIBLE_DEVICES=0,1"));
  CHECK(launch::plan_launch(request, hides).warnings.size() == 1);
}

TEST_CASE("Open MPI 4 is told to keep the domains of hosts", "[launch]") {
  using Catch::Matchers::ContainsSubstring;
  LaunchRequest request = kRequest;
  Machine machine{.num_cores = 8, .host_name = "node1"};
  const auto line_with = [&](const char* hostfile) {
    request.hosts = launch::parse_hostfile(hostfile, "hosts");
    return line_of(request, machine);
  };
  const char* const kOption = " --mca orte_keep_fqdn_hostnames 1 ";
  CHECK_THAT(line_with("node1 slots=1\nnode2.b.example slots=1\n"),
             ContainsSubstring(kOption) && ContainsSubstring("--host node1:1,node2.b.example:1 "));
  CHECK_THAT(line_with("node1 slots=1\nnode2 slots=1\n"), !ContainsSubstring(kOption));
  CHECK_THAT(line_with("10.0.0.1 slots=1\n10.0.0.2 slots=1\n"), !ContainsSubstring(kOption));
  CHECK_THAT(line_with("node1.b.example slots=2\n"), !ContainsSubstring(kOption));  // this machine
  machine.open_mpi_major = [] { return 5; };
  CHECK_THAT(line_with("node1 slots=1\nnode2.b.example slots=1\n"), !ContainsSubstring("orte"));
}

TEST_CASE("An Accelerate file's num_processes counts the ranks of all hosts, where no option does", "[launch]") {
  using Catch::Matchers::ContainsSubstring;
  LaunchRequest request = kRequest;
  request.imported_ranks = {3, {"acc.yaml", 7, 1}};
  const Machine four{.num_visible_gpus = 4, .gpu_numbers = std::vector<int>{0, 1, 2, 3}};
  CHECK(launch::plan_launch(request, four).num_ranks == 3);
  test::require_error(ErrorKind::kDevice, {"acc.yaml:7:1: num_processes 3", "3 GPUs are asked for, but 2"},
                      [&] { line_of(request, {.num_visible_gpus = 2}); });
  LaunchRequest cpu = request;
  cpu.device = DeviceChoice::kCpu;
  CHECK(launch::plan_launch(cpu, {}).num_ranks == 3);
  LaunchRequest one = request;
  one.imported_ranks->number = 1;
  CHECK(line_of(one) == "/bin/dsft-trainer train a.yaml seed=1");
  CHECK(launch::plan_launch(one, four).num_ranks == 1);

  LaunchRequest hosts = request;
  hosts.hosts = launch::parse_hostfile("node1 slots=2\nnode2 slots=2\n", "hosts");
  hosts.hostfile = "hosts";
  CHECK_THAT(line_of(hosts), ContainsSubstring("--host node1:2,node2:1 -n 3 "));
  hosts.imported_ranks->number = 5;
  test::require_error(ErrorKind::kUsage, {"acc.yaml:7:1: num_processes 5", "4 slots of hosts"},
                      [&] { line_of(hosts); });
  hosts.include = "node2";
  CHECK_THAT(line_of(hosts), ContainsSubstring("--host node2:2 -n 2 "));

  LaunchRequest chosen = request;
  chosen.num_gpus = 2;
  CHECK(launch::plan_launch(chosen, four).num_ranks == 2);
  chosen.num_gpus.reset();
  chosen.num_procs = 4;
  CHECK(launch::plan_launch(chosen, four).num_ranks == 4);
  chosen.num_procs.reset();
  chosen.exclude = "localhost:0,1,2";
  CHECK(launch::plan_launch(chosen, four).num_ranks == 1);
}

TEST_CASE("An Accelerate file's gpu_ids choose GPUs of this machine, where nothing else does", "[launch]") {
  using Catch::Matchers::StartsWith;
  LaunchRequest request = kRequest;
  request.imported_gpus = {{3, 2}, {"acc.yaml", 5, 1}};
  Machine machine{.num_visible_gpus = 4, .gpu_numbers = std::vector<int>{0, 1, 2, 3}};
  // in the order that is written, as Accelerate sets CUDA_VISIBLE_DEVICES
  CHECK_THAT(line_of(request, machine), StartsWith("CUDA_VISIBLE_DEVICES=3,2 mpirun "));
  CHECK(launch::plan_launch(request, machine).num_ranks == 2);
  CHECK(launch::plan_launch(request, machine).warnings.empty());
  request.imported_ranks = {1, {"acc.yaml", 7, 1}};
  CHECK(line_of(request, machine) == "CUDA_VISIBLE_DEVICES=3 /bin/dsft-trainer train a.yaml seed=1");
  request.imported_ranks->number = 3;
  test::require_error(ErrorKind::kUsage, {"acc.yaml:5:1: gpu_ids names 2 GPUs", "acc.yaml:7:1: num_processes 3"},
                      [&] { line_of(request, machine); });
  request.imported_ranks.reset();
  test::require_error(ErrorKind::kDevice, {"acc.yaml:5:1: gpu_ids names GPU 3", "those here are 0,1"}, [&] {
    line_of(request, {.num_visible_gpus = 2, .gpu_numbers = std::vector<int>{0, 1}});
  });
  test::require_error(ErrorKind::kDevice, {"gpu_ids names GPU 3", "no GPU can be used here"},
                      [&] { line_of(request, {.gpu_numbers = std::vector<int>{}}); });

  const auto check_unused = [&](const LaunchRequest& other, const char* reason) {
    const auto plan = launch::plan_launch(other, machine);
    REQUIRE(plan.warnings.size() == 1);
    CHECK_THAT(plan.warnings[0],
               StartsWith("acc.yaml:5:1: gpu_ids is not used: ") && Catch::Matchers::ContainsSubstring(reason));
    return plan.num_ranks;
  };
  LaunchRequest other = request;
  other.include = "localhost:1";
  CHECK(check_unused(other, "--include") == 1);
  other = request;
  other.hosts = {{"node2", {0, 1, 2}}};
  other.hostfile = "hosts";
  CHECK(check_unused(other, "the slots of hosts") == 3);
  machine.cuda_visible_devices = "1";
  machine.gpu_numbers = std::vector<int>{1};
  machine.num_visible_gpus = 1;
  CHECK(check_unused(request, "CUDA_VISIBLE_DEVICES=1") == 1);
  other = request;
  other.num_procs = 2;
  CHECK(launch::plan_launch(other, machine).warnings.empty());
}

TEST_CASE("A hostfile of this machine alone starts no remote shell", "[launch]") {
  LaunchRequest request = kRequest;
  request.hosts = launch::parse_hostfile("node1.cluster slots=2\n", "hosts");
  request.hostfile = "hosts";
  const Machine machine{.num_cores = 8, .host_name = "node1"};
  REQUIRE_FALSE(launch::plan_launch(request, machine).has_remote_hosts);
  REQUIRE_THAT(line_of(request, machine), Catch::Matchers::StartsWith("mpirun --oversubscribe"));
  request.include = "node1.cluster:1";
  REQUIRE(line_of(request, machine) == "CUDA_VISIBLE_DEVICES=1 /bin/dsft-trainer train a.yaml seed=1");
  request.include.clear();
  request.hosts = launch::parse_hostfile("node1 slots=2\nlocalhost slots=2\n", "hosts");
  test::require_error(ErrorKind::kUsage, {"hosts names this machine more than once", "localhost (slots 0, 1)"},
                      [&] { launch::plan_launch(request, machine); });
  request.hosts = launch::parse_hostfile("node1 slots=2\nlocalhost slots=2\nnode2 slots=2\n", "hosts");
  test::require_error(ErrorKind::kUsage, {"hosts names this machine more than once"},
                      [&] { launch::plan_launch(request, machine); });
}

TEST_CASE("GPUs of this machine are chosen by number, of those that are visible", "[launch]") {
  LaunchRequest request = kRequest;
  request.include = "localhost:3,1";
  Machine machine{.num_visible_gpus = 4, .gpu_numbers = std::vector<int>{0, 1, 2, 3}};
  REQUIRE_THAT(line_of(request, machine), Catch::Matchers::StartsWith("CUDA_VISIBLE_DEVICES=1,3 mpirun "));
  machine.cuda_visible_devices = "2,3";
  machine.gpu_numbers = std::vector<int>{2, 3};
  test::require_error(ErrorKind::kUsage, {"--include localhost:3,1", "no slot 1", "CUDA_VISIBLE_DEVICES=2,3"},
                      [&] { line_of(request, machine); });
  request.include = "localhost:3";
  REQUIRE(line_of(request, machine) == "CUDA_VISIBLE_DEVICES=3 /bin/dsft-trainer train a.yaml seed=1");
  machine.gpu_numbers = std::nullopt;
  machine.cuda_visible_devices = "GPU-12ab";
  test::require_error(ErrorKind::kUsage, {"GPU-12ab"}, [&] { line_of(request, machine); });
  test::require_error(ErrorKind::kDevice, {"none can be used"},
                      [&] { line_of(request, {.gpu_numbers = std::vector<int>{}}); });
}

TEST_CASE("Only what describes a host or a launcher stays behind", "[launch]") {
  REQUIRE(launch::variables_for_other_hosts({"NCCL_IB_HCA", "OMPI_MCA_btl", "SLURM_PROCID", "PWD", "HOME", "LC_ALL",
                                             "BASH_FUNC_x%%", "PMIX_RANK", "_", "NCCL_DEBUG", "USER"}) ==
          std::vector<std::string>{"HOME", "LC_ALL", "NCCL_DEBUG", "NCCL_IB_HCA", "USER"});
}

TEST_CASE("What the caller's environment sets passes untouched", "[launch]") {
  const Machine machine{.num_cores = 8, .has_omp_num_threads = true, .has_omp_wait_policy = true};
  REQUIRE(line_of(with_procs(2), machine).find("OMP_") == std::string::npos);
  REQUIRE(line_of(with_procs(2), {.has_bind_cores = true}).find("BIND_CORES") == std::string::npos);
}

TEST_CASE("Contradicting or impossible requests are told", "[launch]") {
  const auto require_fault = [](ErrorKind kind, std::initializer_list<std::string> parts, LaunchRequest request,
                                Machine machine) {
    test::require_error(kind, parts, [&] { launch::plan_launch(request, machine); });
  };
  LaunchRequest both = with_procs(2);
  both.num_gpus = 1;
  require_fault(ErrorKind::kUsage, {"--num-gpus and --num-procs"}, both, {});
  require_fault(ErrorKind::kUsage, {"--num-procs is 0"}, with_procs(0), {});
  require_fault(ErrorKind::kUsage, {"device: cuda"}, with_procs(2, DeviceChoice::kCuda), {});
  require_fault(ErrorKind::kUsage, {"device: cpu"}, with_gpus(1, DeviceChoice::kCpu), {.num_visible_gpus = 1});
  require_fault(ErrorKind::kDevice, {"2 GPUs are asked for, but 1"}, with_gpus(2), {.num_visible_gpus = 1});
  LaunchRequest hosts = kRequest;
  hosts.hosts = {{"a", {0, 1}}};
  hosts.hostfile = "hosts";
  hosts.num_procs = 3;
  require_fault(ErrorKind::kUsage, {"--num-procs 3", "2 slots of hosts"}, hosts, {});
  hosts.num_procs.reset();
  hosts.num_gpus = 3;
  require_fault(ErrorKind::kUsage, {"--num-gpus 3", "a (slots 0, 1)"}, hosts, {});
  hosts.include = "a";
  require_fault(ErrorKind::kUsage, {"--num-gpus contradicts --include"}, hosts, {});
  LaunchRequest needs_cuda = kRequest;
  needs_cuda.device = DeviceChoice::kCuda;
  require_fault(ErrorKind::kDevice, {"1 GPU is asked for, but 0"}, needs_cuda, {});
}

TEST_CASE("Every visible GPU gets a rank, unless fewer are asked for", "[launch]") {
  CHECK(launch::plan_launch(kRequest, {.num_visible_gpus = 4}).num_ranks == 4);
  CHECK(launch::plan_launch(with_gpus(2), {.num_visible_gpus = 4}).num_ranks == 2);
}

TEST_CASE("Words are quoted for a shell where needed", "[launch]") {
  REQUIRE(launch::to_shell_line({"a", "b c", "", "it's", "x=[1, 2]"}) == R"(a 'b c' '' 'it'\''s' 'x=[1, 2]')");
}

TEST_CASE("CUDA_VISIBLE_DEVICES is read as CUDA reads it", "[launch]") {
  REQUIRE(launch::count_visible_gpus(std::nullopt, 4) == 4);
  REQUIRE(launch::count_visible_gpus("", 4) == 0);
  REQUIRE(launch::count_visible_gpus("-1", 4) == 0);
  REQUIRE(launch::count_visible_gpus("2,0", 4) == 2);
  REQUIRE(launch::count_visible_gpus("0,7,1", 4) == 1);
  REQUIRE(launch::count_visible_gpus("GPU-12ab,MIG-34", 4) == 2);
  REQUIRE(launch::count_visible_gpus("0", 0) == 0);
}

TEST_CASE("Visible GPUs have numbers, unless they have other names", "[launch]") {
  REQUIRE(launch::visible_gpu_numbers(std::nullopt, 3) == std::vector<int>{0, 1, 2});
  REQUIRE(launch::visible_gpu_numbers("2,0", 3) == std::vector<int>{2, 0});
  REQUIRE(launch::visible_gpu_numbers("2,9,0", 3) == std::vector<int>{2});
  REQUIRE(launch::visible_gpu_numbers("GPU-1", 3) == std::nullopt);
}

TEST_CASE("At least one core can be used", "[launch]") {
  REQUIRE(launch::count_usable_cores() >= 1);
}
