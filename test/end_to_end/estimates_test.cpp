// What is said of memory before anything runs, as a user asks for it.
#include "catch_amalgamated.hpp"
#include "end_to_end/command_job.h"

using namespace dsft;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;
using test::require_one_fault;

TEST_CASE("estimate-memory says what a recipe, a config.json and a size take", "[end_to_end]") {
  const test::CommandJob job;
  const auto estimate = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "estimate-memory");
    arguments.emplace_back("--json");
    const test::ProgramRun run = job.run(arguments);
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    return json::parse(run.out);
  };
  const json of_recipe = estimate({job.recipe, "--num-gpus", "2"});
  REQUIRE(of_recipe["rows"].size() == 9);
  CHECK(of_recipe["model"] == job.model);
  CHECK(of_recipe["num_trainable"] < of_recipe["num_params"]);
  for (const json& row : of_recipe["rows"]) {
    int64_t sum = 0;
    for (const char* column : {"weights", "gradients", "optimizer", "activations", "loss", "buffers"})
      sum += row["gpu_bytes"][column].get<int64_t>();
    CHECK(row["gpu_bytes"]["total"] == sum);
    CHECK(row["num_gpus"] == 2);
    CHECK(row["deepspeed"].is_null());                                // LoRA
    CHECK((row["host_bytes"]["total"] > 0) == row["offload_param"]);  // the state of adapters stays on the GPU
  }
  // a setting behind the recipe counts
  const json longer = estimate({job.recipe, "data.max_length=4096", "--num-gpus", "2"});
  CHECK(longer["tokens"] == 4096);
  CHECK(longer["rows"][0]["gpu_bytes"]["activations"] > of_recipe["rows"][0]["gpu_bytes"]["activations"]);
  // a config.json alone; full fine-tuning has DeepSpeed's figures beside it
  const json of_file = estimate({"--model", job.model + "/config.json"});
  CHECK(of_file["num_params"] == of_recipe["num_params"]);
  CHECK(of_file["num_trainable"] == of_file["num_params"]);
  for (const json& row : of_file["rows"])
    CHECK((row["host_bytes"]["total"] > 0) == (row["offload_optimizer"] || row["offload_param"]));
  CHECK(of_file["rows"][3]["stage"] == 2);
  CHECK(of_file["rows"][3]["deepspeed"]["gpu_bytes"] == 20 * of_file["num_params"].get<int64_t>());
  // CPU ranks take the host's memory
  const json on_cpu = estimate({job.recipe, "device=cpu", "--num-gpus", "2"});
  REQUIRE(on_cpu["rows"].size() == 4);
  CHECK(on_cpu["rows"][0]["gpu_bytes"]["total"] == 0);
  CHECK(on_cpu["rows"][0]["host_bytes"]["total"] > 0);
  CHECK(on_cpu["rows"][0]["fits"].is_null());
  const json of_size = estimate({"--params", "7B", "--num-gpus", "8"});
  CHECK(of_size["num_params"] > 6'930'000'000);
  CHECK(of_size["num_params"] < 7'070'000'000);
  CHECK(of_size["model"].get<std::string>().starts_with("7.0B parameters in the proportions of"));
}

TEST_CASE("What a DeepSpeed or Accelerate file says of batch and ranks counts in estimates", "[end_to_end]") {
  const test::CommandJob job;
  const auto first_row = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"estimate-memory", job.recipe, "device=cpu", "--json"});
    const test::ProgramRun run = job.run(arguments);
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    const json document = json::parse(run.out);
    return std::pair(document["tokens"].get<int64_t>(), document["rows"][0]["num_gpus"].get<int64_t>());
  };
  const auto [tokens, one] = first_row({"training.per_device_train_batch_size=1"});
  const std::string batch = "deepspeed=" + job.folder.write("ds.json", R"({"train_batch_size": 16})").string();
  CHECK(first_row({batch}) == std::pair(16 * tokens, one));
  CHECK(first_row({batch, "--num-gpus", "4"}) == std::pair(4 * tokens, int64_t{4}));
  const std::string both = "deepspeed=" + job.folder
                                              .write("both.json", R"({"train_batch_size": 16,
      "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 2})")
                                              .string();
  CHECK(first_row({both}) == std::pair(2 * tokens, int64_t{4}));
  const std::string ranks =
      "accelerate=" + job.folder.write("accelerate.yaml", "distributed_type: MULTI_CPU\nnum_processes: 4\n").string();
  CHECK(first_row({ranks, "training.per_device_train_batch_size=1"}) == std::pair(tokens, int64_t{4}));
  const test::ProgramRun check = job.run({"check", job.recipe, ranks});
  CHECK_THAT(check.out, ContainsSubstring("4 CPU ranks)"));
  require_one_fault(job.run({"estimate-memory", job.recipe, batch, "--num-gpus", "3"}), "train_batch_size");
}

TEST_CASE("estimate-memory --table gives the guide's rows beside what is computed", "[end_to_end]") {
  const test::CommandJob job;
  const json rows = json::parse(job.run({"estimate-memory", "--table", "--json"}).out);
  REQUIRE(rows.size() == 5);
  for (const json& row : rows) {
    CHECK_FALSE(row["reason"].get<std::string>().empty());
    for (const json& set : row["sets"]) CHECK(set["advised"]["gpu_bytes"] > 0);
  }
  const test::ProgramRun text = job.run({"estimate-memory", "--table"});
  for (const char* part : {"< 1B: stage 2", "1-7B: stage 2 + offload", "7-20B: stage 3", "20-70B", "70B+", "8x H200"})
    CHECK_THAT(text.out, ContainsSubstring(part));
}

TEST_CASE("estimate-memory needs one thing to estimate", "[end_to_end]") {
  const test::CommandJob job;
  require_one_fault(job.run({"estimate-memory"}), "name what to estimate");
  require_one_fault(job.run({"estimate-memory", "--params", "7B", "--model", job.model}), "name what to estimate");
  require_one_fault(job.run({"estimate-memory", "--params", "banana"}), "`banana` is no size of a model");
  require_one_fault(job.run({"estimate-memory", "--table", "--params", "7B"}), "--table");
  require_one_fault(job.run({"estimate-memory", job.recipe, "--length", "8"}),
                    "--length: the recipe says that already");
}

TEST_CASE("check shows what the run takes on this machine", "[end_to_end]") {
  const test::CommandJob job;
  const json memory = json::parse(job.check().out)["plan"]["memory"];
  CHECK(memory["stage"] == 0);
  CHECK(memory["host_bytes"]["total"] > 0);  // no GPU is visible
  CHECK(memory["gpu_bytes"]["total"] == 0);
  const test::ProgramRun text = job.run({"check", job.recipe});
  CHECK_THAT(text.out, ContainsSubstring("# memory: ") && ContainsSubstring("of the host (stage 0, 1 CPU process)"));
}
