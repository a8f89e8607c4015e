#include "estimate/size_table.h"

#include "catch_amalgamated.hpp"
#include "estimate/gpus.h"
#include "estimate/model_shapes.h"
#include "support/require_error.h"

using namespace dsft::estimate;
using dsft::ErrorKind;
using dsft::test::require_error;

TEST_CASE("the guide's rows are computed from a shape within their sizes", "[estimate]") {
  const std::vector<SizeRow> rows = compute_table();
  REQUIRE(rows.size() == 5);
  const int64_t bounds[] = {0, 1'000'000'000, 7'000'000'000, 20'000'000'000, 70'000'000'000, 1'000'000'000'000};
  for (size_t i = 0; i < rows.size(); ++i) {
    INFO(rows[i].guide.sizes);
    REQUIRE(rows[i].num_params > bounds[i]);
    REQUIRE(rows[i].num_params <= bounds[i + 1]);
    REQUIRE(rows[i].outcomes.size() == rows[i].guide.sets.size());
    for (const SetOutcome& outcome : rows[i].outcomes) {
      REQUIRE(outcome.advised.placement.stage == rows[i].guide.placement.stage);
      REQUIRE(outcome.advised.placement.num_gpus == outcome.set.count);
      REQUIRE(outcome.advised_fits == (outcome.advised.gpu.total() <= usable_bytes(named_gpu(outcome.set.gpu))));
      if (outcome.first) REQUIRE(outcome.first->gpu.total() <= usable_bytes(named_gpu(outcome.set.gpu)));
      REQUIRE(rows[i].reason.find(to_gib(outcome.advised.gpu.total())) != std::string::npos);
    }
  }
}

TEST_CASE("another shape moves a row's figures and its verdict", "[estimate]") {
  const GuideRow& guide = model_size_guide()[1];  // 2x RTX 4090, stage 2 + offload
  const SizeRow row = compute_row(guide, spec_of(guide.shape));
  dsft::spec::ModelSpec half = spec_of(guide.shape);
  half.num_hidden_layers /= 2;
  const SizeRow smaller = compute_row(guide, half);
  REQUIRE(smaller.num_params < row.num_params);
  REQUIRE(smaller.lora.gpu.total() < row.lora.gpu.total());
  const MemoryEstimate &before = row.outcomes[0].advised, &after = smaller.outcomes[0].advised;
  // every layer's 16-bit weights are whole on each GPU
  const int64_t of_layers = (row.num_params - smaller.num_params) * 2;
  REQUIRE(before.gpu.weights - after.gpu.weights == of_layers);
  REQUIRE(before.gpu.activations > after.gpu.activations);
  REQUIRE(before.host.optimizer - after.host.optimizer == of_layers * 6);
  REQUIRE(smaller.reason != row.reason);
  REQUIRE_FALSE(row.outcomes[0].advised_fits);  // weights are there twice before the first step
  REQUIRE(smaller.outcomes[0].advised_fits);
}

TEST_CASE("a size becomes a model of that size", "[estimate]") {
  for (const int64_t size : {20'000'000L, 135'000'000L, 600'000'000L, 1'000'000'000L, 3'000'000'000L, 7'000'000'000L,
                             13'000'000'000L, 70'000'000'000L, 200'000'000'000L, 1'000'000'000'000L}) {
    const SizedModel model = model_of_size(size);
    INFO(size << ": " << model.description);
    REQUIRE(std::abs(static_cast<double>(num_params(model.spec) - size)) < 0.01 * static_cast<double>(size));
    REQUIRE(model.spec.num_attention_heads % model.spec.num_key_value_heads == 0);
  }
  REQUIRE(num_params(model_of_size(num_params(spec_of("Qwen3-14B"))).spec) == num_params(spec_of("Qwen3-14B")));
}

TEST_CASE("published shapes have the sizes of their names", "[estimate]") {
  // num_parameters() of transformers for each checkpoint's config.json
  const std::pair<const char*, int64_t> known[] = {{"SmolLM2-135M", 134515008},    {"Qwen3-0.6B", 596049920},
                                                   {"Qwen2.5-1.5B", 1543714304},   {"Qwen3-4B", 4022468096},
                                                   {"Llama-2-7B", 6738415616},     {"Qwen2.5-7B", 7615616512},
                                                   {"Qwen3-14B", 14768307200},     {"Qwen3-32B", 32762123264},
                                                   {"Llama-3.1-70B", 70553706496}, {"Llama-3.1-405B", 405853388800}};
  REQUIRE(std::size(known) == named_shapes().size());
  for (const auto& [name, count] : known) {
    INFO(name);
    REQUIRE(num_params(spec_of(name)) == count);
  }
}

TEST_CASE("sizes are read with their unit", "[estimate]") {
  REQUIRE(parse_size("7B") == 7'000'000'000);
  REQUIRE(parse_size("0.6b") == 600'000'000);
  REQUIRE(parse_size("350M") == 350'000'000);
  REQUIRE(parse_size("1500000") == 1'500'000);
  for (const char* text : {"", "B", "seven", "7GB", "-7B", "0", "100", "nan", "inf", "1e99B"})
    require_error(ErrorKind::kUsage, {"--params", text, "7B"}, [&] { parse_size(text); });
}

TEST_CASE("GPUs stand in the order of their memory, each with its source", "[estimate]") {
  int64_t before = 0;
  for (const NamedGpu& gpu : named_gpus()) {
    REQUIRE(gpu.memory_gib >= before);
    before = gpu.memory_gib;
    REQUIRE_FALSE(gpu.source.empty());
    REQUIRE(gpu.bandwidth_gb_s > 0);
    REQUIRE(gpu.tflops > 0);
    REQUIRE(usable_bytes(gpu) < gpu.memory_gib << 30);
  }
}
