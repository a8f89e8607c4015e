#include "catch_amalgamated.hpp"
#include "estimate/memory.h"
#include "estimate/model_shapes.h"

using namespace dsft::estimate;
namespace spec = dsft::spec;

TEST_CASE("samplers of a grpo recipe keep adapters and what their recorded steps work with, no keys and values",
          "[estimate]") {
  dsft::lora::LoraConfig lora;
  lora.r = 32;
  lora.target_modules = {
      .kind = dsft::lora::TargetModules::Kind::kNames, .names = {"q_proj", "v_proj", "down_proj"}, .regex = {}};
  Workload workload{.model = spec_of("Qwen2.5-1.5B"), .lora = lora};
  const auto buffers = [&](const Placement& placement) { return estimate_memory(workload, placement).gpu.buffers; };
  const int64_t without = buffers({});
  // A of 3 and B of 3 modules of 28 layers; on a GPU q, k and v have one block-diagonal B
  const int64_t adapters = 28 * (64 * 1536 + 64 * (1536 + 2 * 256) + 32 * (8960 + 1536)) * 2;
  const int64_t step = (151936 + 2 * 1536) * 2;  // logits and hidden states of a sequence
  workload.sampled = SampledRows{.num_sequences = 320};
  REQUIRE(buffers({}) - without == adapters + 320 * step);
  workload.sampled->num_evaluated = 512;
  REQUIRE(buffers({}) - without == 2 * adapters + (320 + 512) * step);
  const Placement sliced{.stage = 3, .num_gpus = 2};
  const int64_t sampled = buffers(sliced);
  workload.sampled->num_evaluated = 0;
  REQUIRE(buffers(sliced) == sampled);

  workload.is_on_gpu = false;
  workload.dtype = spec::ComputeDtype::kFp32;
  const auto on_host = [&] { return estimate_memory(workload, {}).host.buffers; };
  const int64_t with_sampler = on_host();
  workload.sampled.reset();
  REQUIRE(with_sampler - on_host() == 28 * (64 * 1536 + 32 * (1536 + 256) + 32 * (8960 + 1536)) * 4);
}
