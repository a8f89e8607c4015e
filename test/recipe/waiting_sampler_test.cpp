// What an engine has between two calls is what the estimate counts (estimate/activations.h).
#include "catch_amalgamated.hpp"
#include "estimate/activations.h"
#include "generate/engine.h"
#include "lora/adapters.h"
#include "spec/lora_targets.h"
#include "support/counted_memory.h"
#include "support/tiny_model.h"

using namespace dsft;

TEST_CASE("an engine that waits keeps its adapters and the rows of its steps alone", "[recipe]") {
  const auto model = test::load_tiny_model("qwen2");
  lora::LoraConfig config;
  config.r = 16;
  lora::attach(*model, spec::match_lora_targets(model->spec(), config), {}, config, /*seed=*/1);
  const nn::BlockRunner runner;
  generate::EngineOptions options;
  options.max_sequences = 4;
  options.cache_bytes = int64_t{64} << 20;
  options.releases_memory = true;
  const std::vector<generate::Request> requests(6, {.prompt_ids = {5, 6, 7}, .max_new_tokens = 9});

  const test::CountedMemory memory;
  const int64_t before = memory.live_bytes();
  generate::Engine engine(*model, runner, options, /*longest=*/12);
  const int64_t rows = memory.live_bytes() - before;
  CHECK(rows < 4 * 128);
  const estimate::Workload workload{
      .model = model->spec(), .lora = config, .dtype = spec::ComputeDtype::kFp32, .is_on_gpu = false};
  for (int call = 0; call < 2; ++call) {
    engine.generate(requests);
    CHECK(memory.live_bytes() - before - rows == estimate::narrow_adapter_bytes(workload));
  }
}
