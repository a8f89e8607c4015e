#include "launch/launch_plan.h"

#include "catch_amalgamated.hpp"
#include "support/require_error.h"

using namespace dsft;
using device::DeviceChoice;
using launch::LaunchRequest;
using launch::Machine;

namespace {

const LaunchRequest kRequest{.trainer = "/bin/dsft-trainer", .recipe = "a.yaml", .overrides = {"seed=1"}};

std::string line_of(const LaunchRequest& request, const Machine& machine = {.num_cores = 8}) {
  return launch::to_shell_line(launch::plan_launch(request, machine).argv);
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
  REQUIRE(
      line_of(with_procs(2)) ==
      "mpirun --oversubscribe --bind-to none -n 2 -x OMP_NUM_THREADS=4 -x OMP_WAIT_POLICY=passive /bin/dsft-trainer "
      "train a.yaml seed=1 device=cpu");
  REQUIRE(line_of(with_procs(16, DeviceChoice::kCpu), {.num_cores = 8, .is_root = true}) ==
          "mpirun --allow-run-as-root --oversubscribe --bind-to none -n 16 -x OMP_NUM_THREADS=1 -x "
          "OMP_WAIT_POLICY=passive /bin/dsft-trainer train a.yaml seed=1");
}

TEST_CASE("What the caller's environment sets passes untouched", "[launch]") {
  const Machine machine{.num_cores = 8, .has_omp_num_threads = true, .has_omp_wait_policy = true};
  REQUIRE(line_of(with_procs(2), machine).find("OMP_") == std::string::npos);
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

TEST_CASE("At least one core can be used", "[launch]") {
  REQUIRE(launch::count_usable_cores() >= 1);
}
