// What is said of a GRPO recipe before anything is computed.
#include "catch_amalgamated.hpp"
#include "end_to_end/command_job.h"

using namespace dsft;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;
using nlohmann::json;

namespace {

/// Three prompts with eight completions each, and micro-batches of half of them: two ranks at least.
struct PromptJob : test::CommandJob {
  PromptJob() {
    recipe = folder
                 .write("grpo.yaml", "recipe: grpo\noutput_dir: " + in("run") + "\nmodel: {path: " + model +
                                         "}\ndevice: cpu\ndata: {train: [" + in("rows.jsonl") +
                                         "]}\ngrpo: {rewards: [json_valid], max_completion_length: 32}\n"
                                         "training: {per_device_train_batch_size: 4}\n")
                 .string();
  }
  std::string on_ranks(int number) const {
    return "accelerate=" + folder
                               .write("ranks-" + std::to_string(number) + ".yaml",
                                      "distributed_type: MULTI_CPU\nnum_processes: " + std::to_string(number) + "\n")
                               .string();
  }
  json sound(const std::vector<std::string>& overrides) const {
    const auto run = check(overrides);
    INFO(run.err << run.out);
    REQUIRE(run.exit_code == 0);
    return json::parse(run.out);
  }
  /// A document with one fault, at this key.
  std::string fault(const std::vector<std::string>& overrides, const std::string& key) const {
    const auto run = check(overrides);
    INFO(run.err << run.out);
    CHECK(run.exit_code == 2);
    const json document = json::parse(run.out);
    CHECK(document["ok"] == false);
    REQUIRE(document["faults"].size() == 1);
    CHECK(document["faults"][0]["key"] == key);
    return document["faults"][0]["message"];
  }
};

}  // namespace

TEST_CASE("check plans a GRPO recipe for the ranks of its files, or for the fewest that give whole groups",
          "[end_to_end]") {
  const PromptJob job;
  const json open = job.sound({});
  CHECK(open["plan"]["num_ranks"] == 2);
  CHECK_THAT(open["plan"]["round"].get<std::string>(),
             StartsWith("1 prompt x 8 completions = 8 rows = 4 (micro-batch) x 1 (step of a generation) x 2 (ranks)"));
  CHECK(open["plan"]["num_steps"] == 3 * 3);  // GRPOConfig's epochs
  CHECK(open["plan"]["memory"]["num_gpus"] == 2);
  REQUIRE(open["warnings"].size() == 1);
  CHECK(open["warnings"][0]["key"] == "training.per_device_train_batch_size");
  CHECK_THAT(open["warnings"][0]["message"].get<std::string>(),
             ContainsSubstring("on 2 ranks and multiples of them alone") && ContainsSubstring("--num-gpus 2"));
  const json settled = job.sound({job.on_ranks(4)});
  CHECK(settled["plan"]["num_ranks"] == 4);
  CHECK(settled["plan"]["num_steps"] == 3);  // two of three prompts in a round
  const json one = job.sound({"training.gradient_accumulation_steps=2"});
  CHECK(one["plan"]["num_ranks"] == 1);
  CHECK(one["warnings"].empty());
}

TEST_CASE("check and a run warn where an update's loss is divided by other tokens than by TRL", "[end_to_end]") {
  const PromptJob job;
  const auto warnings = [&](std::vector<std::string> overrides) {
    overrides.emplace_back("training.per_device_train_batch_size=8");
    return job.sound(overrides)["warnings"];
  };
  CHECK(warnings({}).empty());
  CHECK(warnings({"grpo.generation_batch_size=8"}).empty());
  CHECK(warnings({"grpo.steps_per_generation=2", "grpo.loss_type=grpo"}).empty());
  for (const std::string written : {"steps_per_generation=2", "generation_batch_size=16"}) {
    const json found = warnings({"grpo." + written});
    REQUIRE(found.size() == 1);
    CHECK(found[0]["key"] == "grpo." + written.substr(0, written.find('=')));
    CHECK_THAT(found[0]["message"].get<std::string>(), ContainsSubstring("has 2 micro-batches") &&
                                                           ContainsSubstring("an update takes 1") &&
                                                           ContainsSubstring("dapo divides"));
  }
  const auto run = job.run({"train", job.recipe, "training.per_device_train_batch_size=8",
                            "grpo.steps_per_generation=2", "training.max_steps=1"});
  INFO(run.err);
  CHECK(run.exit_code == 0);
  CHECK_THAT(run.err, ContainsSubstring("warning: a round of sampling has 2 micro-batches"));
}

TEST_CASE("check gives a document of what a round of sampling makes impossible", "[end_to_end]") {
  const PromptJob job;
  CHECK_THAT(job.fault({job.on_ranks(3)}, "training.per_device_train_batch_size"),
             ContainsSubstring("12 completions") && ContainsSubstring("no whole groups of grpo.num_generations 8"));
  CHECK_THAT(job.fault({"grpo.generation_batch_size=24", "training.per_device_train_batch_size=16"},
                       "grpo.generation_batch_size"),
             ContainsSubstring("24 is no multiple of"));
  CHECK_THAT(job.fault({"training.per_device_train_batch_size=32"}, "data.train"),
             ContainsSubstring("3 rows an epoch, and a round of sampling takes 4"));
  CHECK_THAT(job.fault({job.on_ranks(16)}, "data.train"), ContainsSubstring("a round of sampling takes 8"));
  CHECK_THAT(job.fault({"grpo.num_iterations=100", "training.num_train_epochs=1.0e+6"}, "training.num_train_epochs"),
             ContainsSubstring("updates are more than"));
  const auto text = job.run({"check", job.recipe, "training.per_device_train_batch_size=32"});
  CHECK(text.exit_code == 2);
  CHECK_THAT(text.err, ContainsSubstring("grpo.yaml:5:") && ContainsSubstring("data.train: data.train has 3 rows"));
}

TEST_CASE("check looks at the schedule of a GRPO recipe by the updates of its rounds", "[end_to_end]") {
  const PromptJob job;
  const auto with = [](int total) {
    return std::vector<std::string>{"training.per_device_train_batch_size=8", "training.warmup_steps=1",
                                    "training.lr_scheduler_type=WarmupDecayLR",
                                    "training.lr_scheduler_kwargs={total_num_steps: " + std::to_string(total) + "}"};
  };
  // three epochs of three prompts: on one rank, or on two or three
  for (const int fitting : {9, 3}) job.sound(with(fitting));
  for (const int wrong : {1, 5, 6, 10})
    CHECK_THAT(job.fault(with(wrong), "training.lr_scheduler_kwargs.total_num_steps"),
               ContainsSubstring("is " + std::to_string(wrong)) && ContainsSubstring("9 updates"));
  auto on_two = with(9);
  on_two.push_back(job.on_ranks(2));
  CHECK_THAT(job.fault(on_two, "training.lr_scheduler_kwargs.total_num_steps"), ContainsSubstring("3 updates"));
  CHECK_THAT(
      job.fault({"training.lr_scheduler_type=polynomial", "training.learning_rate=1e-9"}, "training.lr_scheduler_type"),
      ContainsSubstring("lr_end"));
}

TEST_CASE("The memory of a GRPO recipe is that of its prompts and completions", "[end_to_end]") {
  const PromptJob job;
  const json plan = job.sound({})["plan"];
  // <|im_start|>user, a question, <|im_end|>, <|im_start|>assistant
  CHECK(plan["longest_prompt"] > 8);
  CHECK(plan["longest_prompt"] < 40);
  CHECK(job.sound({"data.max_length=8"})["plan"]["memory"] == plan["memory"]);
  CHECK(job.sound({"grpo.max_completion_length=64"})["plan"]["memory"]["host_bytes"]["total"] >
        plan["memory"]["host_bytes"]["total"]);
  const auto estimate = job.run({"estimate-memory", "--json", job.recipe});
  INFO(estimate.err);
  REQUIRE(estimate.exit_code == 0);
  const json document = json::parse(estimate.out);
  CHECK(document["tokens"] == 4 * (512 + 32));
  CHECK(document["assumed_prompt_tokens"] == 512);
  CHECK(document["rows"][0]["num_gpus"] == plan["memory"]["num_gpus"]);
  const auto text = job.run({"estimate-memory", job.recipe, "data.max_length=8"});
  CHECK_THAT(text.out, ContainsSubstring("micro-batch 4 x 544 tokens (a prompt is taken to have 512, a completion up "
                                         "to 32)"));
  CHECK_THAT(job.fault({"grpo.max_completion_length=100000000000"}, "training.per_device_train_batch_size"),
             ContainsSubstring("a smaller grpo.max_completion_length"));
}

TEST_CASE("preview shows the prompts that a policy answers, of each agent", "[end_to_end]") {
  const PromptJob job;
  const auto rows_of = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"preview", "--json", "--rows", "2", job.recipe});
    const auto run = job.run(arguments);
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    return json::parse(run.out);
  };
  const json rows = rows_of({});
  REQUIRE(rows.size() == 2);
  CHECK_THAT(rows[1]["text"].get<std::string>(),
             Catch::Matchers::StartsWith("<|im_start|>user\n") && Catch::Matchers::EndsWith("<|im_start|>assistant\n"));
  for (const json& label : rows[1]["labels"]) CHECK(label == -100);
  const json of_agents =
      rows_of({"grpo.agents=[{name: a, system_prompt: Be brief.}, {name: b, system_prompt: Take time.}]"});
  REQUIRE(of_agents.size() == 4);
  CHECK_THAT(of_agents[3]["text"].get<std::string>(), ContainsSubstring("Take time."));
  const auto shown = job.run({"preview", "--rows", "1", job.recipe});
  CHECK_THAT(shown.out, ContainsSubstring("a prompt of " + std::to_string(rows[0]["token_ids"].size()) + " tokens"));
}

TEST_CASE("A question without content is a fault of check at its line, in SFT as in GRPO", "[end_to_end]") {
  const PromptJob job;
  const std::string rows =
      job.folder
          .write("broken.jsonl",
                 R"({"messages": [{"role": "user", "content": "1?"}, {"role": "assistant", "content": "1"}]})"
                 "\n"
                 R"({"messages": [{"role": "user", "content": null}, {"role": "assistant", "content": "2"}]})"
                 "\n")
          .string();
  for (const std::string& recipe : {job.recipe, job.in("recipe.yaml")}) {
    const auto run = job.run({"check", "--json", recipe, "data.train=[" + rows + "]"});
    INFO(run.err << run.out);
    CHECK(run.exit_code == 3);
    const json document = json::parse(run.out);
    REQUIRE(document["faults"].size() == 1);
    CHECK_THAT(
        document["faults"][0]["message"].get<std::string>(),
        ContainsSubstring("broken.jsonl:2: field \"messages[0].content\": is null: a message of role user needs text"));
  }
}
