#include "estimate/memory.h"

#include <cmath>
#include <tuple>

#include "catch_amalgamated.hpp"
#include "estimate/activations.h"
#include "estimate/model_shapes.h"
#include "estimate/parameter_blocks.h"
#include "support/require_error.h"
#include "zero/shard_plan.h"

using namespace dsft::estimate;
using dsft::train::GradientCheckpointing;
namespace lora = dsft::lora;
namespace spec = dsft::spec;
using dsft::test::require_error;
namespace zero = dsft::zero;

namespace {

constexpr double kGib = 1 << 30;

lora::LoraConfig lora_on(std::vector<std::string> names, int64_t r = 16) {
  lora::LoraConfig config;
  config.r = r;
  config.target_modules = {.kind = lora::TargetModules::Kind::kNames, .names = std::move(names), .regex = {}};
  return config;
}

lora::LoraConfig lora_on_attention() {
  return lora_on({"q_proj", "k_proj", "v_proj", "o_proj"});
}

double gib(int64_t bytes) {
  return static_cast<double>(bytes) / kGib;
}

// A peak that docs/benchmarks.md gives: one GPU, bf16, torch's max_memory_allocated.
struct Measured {
  const char* shape;
  int64_t num_documents, length;
  bool is_full;
  GradientCheckpointing recompute;
  double peak_gib;
  double bound = 0.03;  // of the peak; what recomputes little has the scratch memory of libraries for a larger share
};

}  // namespace

TEST_CASE("the estimate of a GPU's peak is within 3 % of what benchmarks measured, 7 % where it is small",
          "[estimate]") {
  const auto [shape, documents, length, is_full, recompute, peak, bound] =
      GENERATE(Measured{"Qwen3-0.6B", 8, 2048, false, GradientCheckpointing::kFalse, 15.1},
               Measured{"Qwen3-0.6B", 8, 2048, false, GradientCheckpointing::kTrue, 3.2, 0.07},
               Measured{"Qwen3-0.6B", 8, 2048, true, GradientCheckpointing::kFalse, 27.9},
               Measured{"Qwen3-0.6B", 4, 512, false, GradientCheckpointing::kFalse, 3.1},
               Measured{"Qwen3-0.6B", 1, 512, false, GradientCheckpointing::kFalse, 1.8},
               Measured{"Qwen2.5-1.5B", 8, 2048, false, GradientCheckpointing::kFalse, 25.8},
               Measured{"Qwen2.5-7B", 4, 2048, false, GradientCheckpointing::kFalse, 39.3},
               Measured{"Qwen2.5-7B", 4, 2048, false, GradientCheckpointing::kTrue, 17.3},
               Measured{"Qwen2.5-7B", 4, 2048, false, GradientCheckpointing::kSelective, 25.4});
  Workload workload{.model = spec_of(shape), .lora = std::nullopt};
  if (!is_full) workload.lora = lora_on_attention();
  workload.num_documents = documents;
  workload.length = length;
  workload.recompute = recompute;
  const MemoryEstimate estimate = estimate_memory(workload, {});
  INFO(shape << " " << documents << "x" << length << ": " << gib(estimate.gpu.total()) << " estimated, measured "
             << peak);
  CAPTURE(gib(estimate.gpu.weights), gib(estimate.gpu.gradients), gib(estimate.gpu.optimizer),
          gib(estimate.gpu.activations), gib(estimate.gpu.loss), gib(estimate.gpu.buffers));
  CHECK(std::abs(gib(estimate.gpu.total()) - peak) <= bound * peak);
  CHECK(estimate.host == Columns{});
}

TEST_CASE("the estimates of two GPUs are within 1 % of what benchmarks measured", "[estimate]") {
  // 4 x 2048 tokens for each GPU (docs/benchmarks.md)
  using Place = Placement;
  const auto none = GradientCheckpointing::kFalse;
  const auto [shape, is_full, placement, recompute, measured] =
      GENERATE_COPY(std::tuple{"Qwen2.5-1.5B", false, Place{0, false, false, 1}, none, 14.4},
                    std::tuple{"Qwen2.5-1.5B", false, Place{0, false, false, 2}, none, 14.4},
                    std::tuple{"Qwen2.5-1.5B", true, Place{1, false, false, 2}, none, 36.43},
                    std::tuple{"Qwen2.5-1.5B", true, Place{2, false, false, 2}, none, 31.54},
                    std::tuple{"Qwen2.5-1.5B", true, Place{3, false, false, 2}, none, 30.63},
                    std::tuple{"Qwen2.5-1.5B", true, Place{2, true, false, 2}, none, 20.04},
                    std::tuple{"Qwen2.5-1.5B", true, Place{3, true, false, 2}, none, 19.13},
                    std::tuple{"Qwen2.5-1.5B", true, Place{3, true, true, 2}, none, 17.69},
                    std::tuple{"Qwen2.5-1.5B", true, Place{1, false, false, 2}, GradientCheckpointing::kTrue, 21.55},
                    std::tuple{"Qwen2.5-1.5B", true, Place{2, false, false, 2}, GradientCheckpointing::kTrue, 16.84},
                    std::tuple{"Qwen2.5-1.5B", true, Place{3, false, false, 2}, GradientCheckpointing::kTrue, 15.67},
                    std::tuple{"Qwen2.5-7B", true, Place{3, false, false, 2}, GradientCheckpointing::kTrue, 69.65});
  Workload workload{.model = spec_of(shape), .lora = std::nullopt};
  if (!is_full) workload.lora = lora_on_attention();
  workload.num_documents = 4;
  workload.recompute = recompute;
  const double estimated = gib(estimate_memory(workload, placement).gpu.total());
  CAPTURE(shape, is_full, describe(placement), estimated, measured);
  CHECK(std::abs(estimated - measured) <= 0.01 * measured);
}

namespace {

// Measured as peak_memory_gib of metrics.jsonl says it, the process and all; a model of next to nothing takes 0.4 GiB.
constexpr double kProcessGib = 0.4;

}  // namespace

TEST_CASE("the estimate of a CPU process is within 10 % of what a benchmark measured", "[estimate]") {
  // LoRA r = 16 on all linear layers, 4 x 2048 tokens (docs/benchmarks.md)
  Workload workload{.model = spec_of("SmolLM2-135M"), .lora = lora::LoraConfig()};
  workload.dtype = spec::ComputeDtype::kFp32;
  workload.is_on_gpu = false;
  workload.num_documents = 4;
  const MemoryEstimate estimate = estimate_memory(workload, {});
  CHECK(std::abs(gib(estimate.host.total()) + kProcessGib - 10.75) <= 1.075);
  CHECK(estimate.gpu == Columns{});
}

TEST_CASE("the estimates of CPU ranks are within 10 % of what they took", "[estimate]") {
  // all weights of SmolLM2, 2 x 512 tokens, all supervised, fp32 (docs/memory.md)
  const auto [stage, num_ranks, peak] = GENERATE(std::tuple{0, 1, 3.80}, std::tuple{0, 2, 3.81}, std::tuple{1, 2, 3.56},
                                                 std::tuple{2, 2, 3.16}, std::tuple{3, 2, 3.06});
  Workload workload{.model = spec_of("SmolLM2-135M"), .lora = std::nullopt};
  workload.dtype = spec::ComputeDtype::kFp32;
  workload.is_on_gpu = false;
  workload.num_documents = 2;
  workload.length = 512;
  const MemoryEstimate estimate = estimate_memory(workload, {stage, false, false, num_ranks});
  const double of_rank = gib(estimate.host.total() / num_ranks) + kProcessGib;
  CAPTURE(stage, num_ranks, of_rank);
  CHECK(std::abs(of_rank - peak) <= 0.1 * peak);
}

namespace {

// Two layers whose sizes can be worked out by hand.
spec::ModelSpec tiny_spec(bool is_tied = false) {
  spec::ModelSpec spec;
  spec.model_type = "llama";
  spec.vocab_size = 100;
  spec.hidden_size = 64;
  spec.intermediate_size = 96;
  spec.num_hidden_layers = 2;
  spec.num_attention_heads = 4;
  spec.num_key_value_heads = 2;
  spec.head_dim = 16;
  spec.tie_word_embeddings = is_tied;
  return spec;
}

constexpr int64_t kEmbedding = 100 * 64;
constexpr int64_t kLayer = 64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 96 * 64 + 2 * 64;
constexpr int64_t kModel = 2 * kEmbedding + 2 * kLayer + 64;

Workload tiny_workload() {
  Workload workload{.model = tiny_spec(), .lora = std::nullopt};
  workload.length = 32;
  return workload;
}

MemoryEstimate tiny_estimate(const Placement& placement) {
  return estimate_memory(tiny_workload(), placement);
}

}  // namespace

TEST_CASE("stages share what they are for, and nothing else changes", "[estimate]") {
  const Columns whole = tiny_estimate({0, false, false, 4}).gpu;
  REQUIRE(whole.weights == kModel * 2);
  REQUIRE(whole.gradients == kModel * 4);
  REQUIRE(whole.optimizer == kModel * 12);

  const int64_t slices = 2 * (kEmbedding / 4) + 2 * (kLayer / 4) + 16;  // the head's block ends in the norm of 64
  const Columns one = tiny_estimate({1, false, false, 4}).gpu, two = tiny_estimate({2, false, false, 4}).gpu,
                three = tiny_estimate({3, false, false, 4}).gpu;
  REQUIRE(one.weights == whole.weights);
  REQUIRE(one.optimizer == slices * 12);
  REQUIRE(one.gradients == (kModel + slices) * 4);
  REQUIRE(two.weights == whole.weights);
  REQUIRE(two.gradients == slices * 4);
  REQUIRE(two.optimizer == slices * 12);
  // whole gradients of the block whose backward pass runs and of the one behind it; beside what
  // is left of the pass: all and the loss at the head, one layer's part and its work at the first layer
  const ActivationBytes pass = estimate_activations(tiny_workload());
  const int64_t head = kEmbedding + 64;
  const auto beside = [&](int64_t gathered_by_head, int64_t by_second, int64_t by_first) {
    const int64_t at_head = pass.kept + pass.loss + head * 4 + gathered_by_head;
    const int64_t at_second = pass.kept + pass.working + (kLayer + head) * 4 + by_second;
    const int64_t at_first = pass.kept / 2 + pass.working + 2 * kLayer * 4 + by_first;
    return std::max({at_head, at_second, at_first}) - pass.peak() + (int64_t{32} << 20);
  };
  REQUIRE(two.buffers == beside(0, 0, 0));
  REQUIRE(three.weights == slices * 2);
  REQUIRE(three.gradients == two.gradients);
  REQUIRE(three.buffers == beside((head + kLayer) * 2, 2 * kLayer * 2, (kLayer + kEmbedding) * 2));
  Placement without_overlap{3, false, false, 4};
  without_overlap.gathers_ahead = false;
  REQUIRE(tiny_estimate(without_overlap).gpu.buffers == beside(head * 2, kLayer * 2, kLayer * 2));
  for (const Columns& columns : {one, two, three}) {
    REQUIRE(columns.activations == whole.activations);
    REQUIRE(columns.loss == whole.loss);
  }
  // one rank has nobody to share with
  for (int64_t stage = 1; stage <= 3; ++stage)
    REQUIRE(tiny_estimate({stage, false, false, 1}).gpu == tiny_estimate({0, false, false, 1}).gpu);
}

TEST_CASE("offloads move optimizer state and parameters to the host", "[estimate]") {
  const MemoryEstimate here = tiny_estimate({3, false, false, 2});
  const MemoryEstimate optimizer = tiny_estimate({3, true, false, 2});
  const MemoryEstimate both = tiny_estimate({3, true, true, 2});
  REQUIRE(here.host == Columns{});
  REQUIRE(optimizer.gpu.optimizer == 0);
  REQUIRE(optimizer.gpu.gradients == 0);
  REQUIRE(optimizer.gpu.weights == here.gpu.weights);
  REQUIRE(optimizer.host.optimizer == 2 * here.gpu.optimizer);  // of both ranks
  REQUIRE(optimizer.host.gradients == here.gpu.gradients);      // in bf16
  REQUIRE(optimizer.host.weights == 2 * here.gpu.weights);      // the copies of the new ones that leave
  REQUIRE(both.gpu.weights == 0);
  REQUIRE(both.host.weights == 2 * here.gpu.weights);  // there are no copies then
  REQUIRE(both.host.total() == optimizer.host.total());
  REQUIRE(tiny_estimate({3, false, true, 2}).host.total() == 2 * here.gpu.weights);
  // beside whole gradients and gathered weights a slice's sums, and they in bf16 on their way, of the block behind
  const ActivationBytes pass = estimate_activations(tiny_workload());
  const int64_t head = kEmbedding + 64;
  const auto buffers = [&](int64_t bytes_that_leave) {
    const int64_t at_head = pass.kept + pass.loss + head * 4 + (head + kLayer) * 2;
    const int64_t at_second =
        pass.kept + pass.working + (kLayer + head) * 4 + 2 * kLayer * 2 + head / 2 * bytes_that_leave;
    const int64_t at_first =
        pass.kept / 2 + pass.working + 2 * kLayer * 4 + (kLayer + kEmbedding) * 2 + kLayer / 2 * bytes_that_leave;
    return std::max({at_head, at_second, at_first}) - pass.peak() + (int64_t{32} << 20);
  };
  REQUIRE(here.gpu.buffers == buffers(0));
  REQUIRE(both.gpu.buffers == buffers(4 + 2));
  // stage 1 reduces once an update: until then the sums stay
  REQUIRE(tiny_estimate({1, true, false, 2}).gpu.gradients == kModel * 4);

  Workload workload = tiny_workload();
  workload.accumulates = true;
  const auto host_gradients = [&](int64_t stage) {
    return estimate_memory(workload, {stage, true, false, 2}).host.gradients;
  };
  REQUIRE(host_gradients(2) == 3 * optimizer.host.gradients);  // and their sums in fp32
  REQUIRE(host_gradients(1) == optimizer.host.gradients);      // which the device has
  workload.accumulates = false;
  workload.dtype = spec::ComputeDtype::kFp32;
  const Columns wide = estimate_memory(workload, {2, true, false, 2}).host;
  REQUIRE(wide.weights == 0);
  REQUIRE(wide.gradients == 2 * optimizer.host.gradients);
  REQUIRE(wide.optimizer == optimizer.host.optimizer);
}

TEST_CASE("one rank offloads by blocks, and adapters not at all", "[estimate]") {
  const Columns one = tiny_estimate({2, true, false, 1}).gpu;
  REQUIRE(one.gradients == 0);
  REQUIRE(one.optimizer == 0);
  // slices are whole blocks: that of the block in reduction is there a second time, and in bf16
  const ActivationBytes pass = estimate_activations(tiny_workload());
  const int64_t head = kEmbedding + 64;
  const int64_t at_head = pass.kept + pass.loss + head * 4;
  const int64_t at_second = pass.kept + pass.working + (kLayer + 2 * head) * 4 + head * 2;
  const int64_t at_first = pass.kept / 2 + pass.working + 3 * kLayer * 4 + kLayer * 2;
  const int64_t at_embedding = (kEmbedding + 2 * kLayer) * 4 + kLayer * 2;
  const int64_t after_it = 2 * kEmbedding * 4 + kEmbedding * 2;
  REQUIRE(one.buffers ==
          std::max({at_head, at_second, at_first, at_embedding, after_it}) - pass.peak() + (int64_t{32} << 20));
  REQUIRE(tiny_estimate({3, true, true, 1}).gpu.weights == 0);
  Workload workload = tiny_workload();
  workload.lora = lora_on({"q_proj", "down_proj"}, 16);
  REQUIRE(estimate_memory(workload, {2, true, false, 2}).gpu == estimate_memory(workload, {2, false, false, 2}).gpu);
  REQUIRE(estimate_memory(workload, {2, true, false, 2}).host == Columns{});
  REQUIRE(estimate_memory(workload, {3, true, true, 2}).host.total() == kModel * 2);
}

TEST_CASE("LoRA keeps its own parameters whole, and stage 3 alone shares its base", "[estimate]") {
  Workload workload = tiny_workload();
  workload.lora = lora_on({"q_proj", "down_proj"}, 16);
  const int64_t adapters = 2 * 16 * ((64 + 64) + (96 + 64));
  for (int64_t stage = 0; stage <= 2; ++stage) {
    const Columns columns = estimate_memory(workload, {stage, false, false, 4}).gpu;
    REQUIRE(columns.weights == kModel * 2 + adapters * 4);
    REQUIRE(columns.gradients == adapters * 4);
    REQUIRE(columns.optimizer == adapters * 8);
  }
  const Columns sliced = estimate_memory(workload, {3, false, false, 4}).gpu;
  REQUIRE(sliced.weights == kModel * 2 / 4 + adapters * 4);
  REQUIRE(sliced.optimizer == adapters * 8);
  workload.lora->modules_to_save = {"lm_head"};
  const Columns saved = estimate_memory(workload, {0, false, false, 1}).gpu;
  // adapters in fp32 beside trained weights in 16 bits: the flat buffers of each type are as long as both
  REQUIRE(saved.weights == kModel * 2 + adapters * 4 + kEmbedding * 4 + adapters * 2);
  REQUIRE(saved.optimizer == adapters * 8 + kEmbedding * 12 + adapters * 4);
}

TEST_CASE("a reference policy is what is trained once more, where its parameters are", "[estimate]") {
  Workload workload = tiny_workload();
  const auto more = [&](const Placement& placement) {
    Workload with = workload;
    with.keeps_reference = true;
    const MemoryEstimate a = estimate_memory(with, placement), b = estimate_memory(workload, placement);
    CHECK(a.gpu.weights - b.gpu.weights == a.gpu.total() - b.gpu.total() + (b.outside - a.outside));
    return std::pair(a.gpu.weights - b.gpu.weights, a.host.total() - b.host.total());
  };
  const int64_t slices = 2 * (kEmbedding / 4) + 2 * (kLayer / 4) + 16;
  CHECK(more({0, false, false, 1}) == std::pair<int64_t, int64_t>(kModel * 2, 0));
  CHECK(more({2, true, false, 4}) == std::pair<int64_t, int64_t>(kModel * 2, 0));
  CHECK(more({3, false, false, 4}) == std::pair<int64_t, int64_t>(slices * 2, 0));
  CHECK(more({3, true, true, 4}) == std::pair<int64_t, int64_t>(0, 4 * slices * 2));
  workload.lora = lora_on({"q_proj", "down_proj"}, 16);
  workload.lora->modules_to_save = {"lm_head"};
  const int64_t adapters = 2 * 16 * ((64 + 64) + (96 + 64));
  CHECK(more({0, false, false, 1}) == std::pair<int64_t, int64_t>(adapters * 4 + kEmbedding * 2, 0));
}

TEST_CASE("slices are those of the optimizer's plan", "[estimate]") {
  const int64_t num_ranks = GENERATE(1, 2, 3, 7);
  const bool is_tied = GENERATE(false, true);
  Workload workload{.model = tiny_spec(is_tied), .lora = std::nullopt};
  workload.model.has_qk_norm = true;
  std::vector<zero::PlannedParameter> parameters;
  for (const spec::TensorSpec& tensor : tensor_inventory(workload.model)) {
    int64_t numel = 1, bucket = 3;
    for (const int64_t size : tensor.shape) numel *= size;
    if (tensor.name.starts_with("model.embed")) bucket = 0;
    if (tensor.name.starts_with("model.layers.")) bucket = 1 + tensor.name[13] - '0';
    parameters.push_back({numel, bucket, true});
  }
  const zero::ShardPlan plan(parameters, num_ranks, 0);
  int64_t own = 0;
  for (const BlockParameters& block : parameter_blocks(workload)) own += slice_of(block.trained, num_ranks);
  REQUIRE(own == plan.own_size());
}

TEST_CASE("activations grow with the tokens of a micro-batch and shrink with what is computed again", "[estimate]") {
  Workload workload{.model = spec_of("Qwen3-0.6B"), .lora = std::nullopt};
  const auto activations = [&](int64_t documents, GradientCheckpointing recompute) {
    workload.num_documents = documents;
    workload.recompute = recompute;
    return estimate_memory(workload, {}).gpu.activations;
  };
  const int64_t all = activations(8, GradientCheckpointing::kFalse);
  REQUIRE(std::abs(static_cast<double>(all) / static_cast<double>(activations(16, GradientCheckpointing::kFalse)) -
                   0.5) < 0.02);
  const int64_t selective = activations(8, GradientCheckpointing::kSelective);
  const int64_t whole = activations(8, GradientCheckpointing::kTrue);
  REQUIRE(selective < all);
  REQUIRE(whole < selective / 3);
}

TEST_CASE("a micro-batch beyond all memory is a fault and no number", "[estimate]") {
  Workload workload = tiny_workload();
  workload.num_documents = int64_t{1} << 40;
  require_error(dsft::ErrorKind::kUsage, {"1099511627776 rows of 32 tokens", "per_device_train_batch_size"},
                [&] { estimate_memory(workload, {}); });
}

TEST_CASE("weights that the optimizer takes over are there twice before it has gradients and moments", "[estimate]") {
  Workload workload{.model = spec_of("Qwen2.5-7B"), .lora = std::nullopt};
  workload.length = 16;
  workload.recompute = GradientCheckpointing::kTrue;
  const int64_t num = num_params(workload.model);
  const MemoryEstimate one = estimate_memory(workload, {});
  REQUIRE(one.outside == 0);  // 2 + 2 + 4 bytes then, 2 + 4 + 12 later
  REQUIRE(one.gpu.total() >= num * (2 + 4 + 12));
  REQUIRE(one.gpu.total() < num * (2 + 4 + 12) + (int64_t{1} << 30));
  const MemoryEstimate of_64 = estimate_memory(workload, {2, false, false, 64});
  REQUIRE(of_64.outside > 0);
  const double start = static_cast<double>(num) * (2 + 2 + 4.0 / 64);
  REQUIRE(std::abs(static_cast<double>(of_64.gpu.total()) / start - 1) < 1e-3);  // gaps of the alignment
}

TEST_CASE("ranks that share the weights have all of them while they generate alone", "[estimate]") {
  Workload workload{.model = spec_of("Qwen2.5-7B"), .lora = std::nullopt};
  workload.length = 16;
  workload.recompute = GradientCheckpointing::kTrue;
  const Placement placement{3, true, true, 4};
  const MemoryEstimate trained = estimate_memory(workload, placement);
  REQUIRE(trained.outside == 0);
  workload.generates = true;
  const MemoryEstimate evaluated = estimate_memory(workload, placement);
  REQUIRE(evaluated.outside > 0);
  REQUIRE(evaluated.gpu.total() == num_params(workload.model) * 2);
  REQUIRE(trained.gpu.total() < evaluated.gpu.total() / 2);

  dsft::recipe_config::RecipeConfig recipe;
  recipe.training.eval_strategy = dsft::train::EvalStrategy::kEpoch;
  REQUIRE_FALSE(workload_of(recipe, workload.model).generates);  // the loss alone
  recipe.eval.metrics.push_back(dsft::evaluate::Metric::kExactMatch);
  REQUIRE(workload_of(recipe, workload.model).generates);
  recipe.training.eval_strategy = dsft::train::EvalStrategy::kNo;
  REQUIRE_FALSE(workload_of(recipe, workload.model).generates);
}
