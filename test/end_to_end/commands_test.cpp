// The commands that compute nothing, as a user runs them.
#include "catch_amalgamated.hpp"
#include "end_to_end/command_job.h"

using namespace dsft;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;
using nlohmann::json;
using test::kChatml;
using test::require_one_fault;

TEST_CASE("check gives one JSON document with the plan of a sound recipe", "[end_to_end]") {
  const test::CommandJob job;
  const auto run = job.check({"training.warmup_steps=2", "training.max_steps=6"});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const json document = json::parse(run.out);
  CHECK(document["ok"] == true);
  CHECK(document["faults"].empty());
  CHECK(document["recipe"]["lora"]["r"] == 4);
  const json& plan = document["plan"];
  CHECK(plan["num_params"] == 1024 * 8 + 3 * 8 + 2 * 8 * 8 + 2 * 4 * 8 + 3 * 8 * 16);
  CHECK(plan["num_adapted_modules"] == 7);
  CHECK(plan["train_rows"] == 3);
  // by transformers' linear warm-up: the second of two updates has half the rate, and the last of all is the sixth
  REQUIRE(plan["learning_rates"].size() == 4);
  CHECK(plan["learning_rates"]["0"] == 0.0);
  CHECK(plan["learning_rates"]["1"] == 5e-4);
  CHECK(plan["learning_rates"].contains("3"));
  CHECK(plan["learning_rates"].contains("5"));
  const json short_plan = json::parse(job.check({"training.max_steps=1", "training.warmup_steps=9"}).out)["plan"];
  CHECK(short_plan["learning_rates"].size() == 1);
}

TEST_CASE("check ends with the first of 2, 4 and 3, and always with a document", "[end_to_end]") {
  const test::CommandJob job;
  struct Case {
    std::vector<std::string> overrides;
    int exit_code;
    std::vector<std::string> keys;
  };
  const std::string no_rows = "data.train=[" + job.in("none.jsonl") + "]", no_model = "model.path=" + job.in("none");
  const std::vector<Case> cases{
      {{no_rows}, 3, {"data.train"}},
      {{no_rows, no_model}, 4, {"model.path", "data.train"}},
      {{no_rows, "output_dir=" + job.model}, 2, {"output_dir", "data.train"}},
      {{"lora.rank=4"}, 2, {"lora.rank"}},
      {{"lora.adapter=" + job.in("none")}, 4, {"lora.adapter"}},
      {{"model.path=" + std::string(300, 'x')}, 4, {"model.path"}},
      {{"training.lr_scheduler_type=polynomial", "training.learning_rate=1e-9"}, 2, {"training.lr_scheduler_type"}}};
  for (const Case& one : cases) {
    const auto run = job.check(one.overrides);
    INFO(one.overrides[0] << "\n" << run.err << run.out);
    CHECK(run.exit_code == one.exit_code);
    const json document = json::parse(run.out);
    CHECK(document["ok"] == false);
    std::vector<std::string> keys;
    for (const json& fault : document["faults"]) {
      keys.push_back(fault["key"]);
      for (const char* member : {"file", "line", "column", "message"}) CHECK(fault.contains(member));
    }
    std::sort(keys.begin(), keys.end());
    auto expected = one.keys;
    std::sort(expected.begin(), expected.end());
    CHECK(keys == expected);
  }
}

TEST_CASE("A DeepSpeed schedule of another length than the run's is a fault of check and of the run", "[end_to_end]") {
  const test::CommandJob job;  // 3 rows, 2 epochs: 6 updates on one rank, 4 on two
  const auto with = [](int total) {
    return std::vector<std::string>{"data.packing=false", "training.num_train_epochs=2", "training.warmup_steps=1",
                                    "training.lr_scheduler_type=WarmupDecayLR",
                                    "training.lr_scheduler_kwargs={total_num_steps: " + std::to_string(total) + "}"};
  };
  for (const int fitting : {6, 4, 2}) CHECK(job.check(with(fitting)).exit_code == 0);
  for (const int wrong : {1, 5, 7}) {
    const auto run = job.check(with(wrong));
    INFO(run.out << run.err);
    CHECK(run.exit_code == 2);
    const json fault = json::parse(run.out)["faults"].at(0);
    CHECK(fault["key"] == "training.lr_scheduler_kwargs.total_num_steps");
    CHECK_THAT(fault["message"].get<std::string>(),
               ContainsSubstring("is " + std::to_string(wrong)) && ContainsSubstring("6 updates"));
  }
  auto training = with(5);
  training.insert(training.begin(), {"train", job.recipe});
  const auto run = job.run(training);
  CHECK(run.exit_code == 2);
  CHECK_THAT(run.err, ContainsSubstring("total_num_steps is 5") && ContainsSubstring("6 updates"));
}

TEST_CASE("check's document names what has no effect on the model", "[end_to_end]") {
  const test::CommandJob job;
  const auto run = job.check({"lora.target_modules=[q_proj]", "lora.rank_pattern={k_proj: 2}", "data.max_length=1000"});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  std::vector<std::string> keys;
  const json document = json::parse(run.out);
  for (const json& warning : document["warnings"]) keys.push_back(warning["key"]);
  std::sort(keys.begin(), keys.end());
  CHECK(keys == std::vector<std::string>{"data.max_length", "lora.rank_pattern"});
}

TEST_CASE("check --config-only looks at no file but the recipe", "[end_to_end]") {
  const test::CommandJob job;
  std::filesystem::remove_all(job.model);
  CHECK(job.check().exit_code == 4);
  const auto run = job.check({"--config-only"});
  CHECK(run.exit_code == 0);
  CHECK(json::parse(run.out)["plan"].is_null());
}

TEST_CASE("preview shows what the model will see, as JSON and as a page", "[end_to_end]") {
  const test::CommandJob job;
  const auto run = job.run({"preview", "--json", "--rows", "2", job.recipe});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const json rows = json::parse(run.out);
  REQUIRE(rows.size() == 2);
  CHECK(rows[1]["text"] == "<|im_start|>user\nWhat is 1?<|im_end|>\n<|im_start|>assistant\nYes & no.<|im_end|>\n");
  CHECK(rows[1]["labels"].size() == rows[1]["token_ids"].size());
  const auto page = job.run({"preview", "--html", job.in("page.html"), job.recipe});
  REQUIRE(page.exit_code == 0);
  const std::string html = test::read_file(job.folder / "page.html");
  CHECK_THAT(html, StartsWith("<!DOCTYPE html>") && ContainsSubstring("class=\"s\"") && ContainsSubstring("&amp;") &&
                       ContainsSubstring("↵\n"));
  CHECK(html.find("<|im_start|>") == std::string::npos);
  const std::string odd = job.folder
                              .write("odd.jsonl", R"({"messages": [{"role": "user", "content": "\u001b[31m"}, )"
                                                  R"({"role": "assistant", "content": "red"}]})"
                                                  "\n")
                              .string();
  REQUIRE(job.run({"preview", "--html", job.in("odd.html"), job.recipe, "data.train=[" + odd + "]"}).exit_code == 0);
  const std::string odd_html = test::read_file(job.folder / "odd.html");
  CHECK_THAT(odd_html, ContainsSubstring("␛") && !ContainsSubstring("\x1b"));
}

TEST_CASE("An output that would overwrite what the command reads is refused, and nothing is touched", "[end_to_end]") {
  const test::CommandJob job;
  const std::string rows = job.in("rows.jsonl"), config = job.in("model/config.json");
  const std::string adapter = test::write_tiny_adapter(job.folder, "adapter").string();
  std::filesystem::create_symlink("rows.jsonl", job.folder / "link.jsonl");
  const std::vector<std::pair<std::string, std::vector<std::string>>> kCommands{
      {rows, {"score", "--model", job.model, "--input", rows, "--output", rows}},
      {rows, {"score", "--model", job.model, "--input", rows, "--output", job.in("link.jsonl")}},
      {config, {"score", "--model", job.model, "--input", rows, "--output", config}},
      {rows, {"generate", "--model", job.model, "--input", rows, "--output", rows}},
      {rows, {"generate", "--model", job.model, "--messages", rows, "--output", rows}},
      {adapter + "/adapter_config.json",
       {"generate", "--model", job.model, "--adapter", adapter, "--prompt", "x", "--output",
        adapter + "/adapter_config.json"}},
      {rows, {"preview", "--html", rows, job.recipe}},
      {job.recipe, {"preview", "--html", job.recipe, job.recipe}},
      {config, {"preview", "--html", config, job.recipe}}};
  for (const auto& [file, command] : kCommands) {
    const std::string before = test::read_file(file);
    INFO(command.front() << " " << file);
    require_one_fault(job.run(command), "would overwrite");
    CHECK(test::read_file(file) == before);
  }
  CHECK(std::filesystem::is_symlink(job.folder / "link.jsonl"));
}

TEST_CASE("A page that cannot be written ends preview with 3", "[end_to_end]") {
  const test::CommandJob job;
  const auto run = job.run({"preview", "--html", job.in("nowhere/page.html"), job.recipe});
  INFO(run.err);
  CHECK(run.exit_code == 3);
  CHECK_THAT(run.err, ContainsSubstring("nowhere/page.html"));
}

TEST_CASE("tokenize gives ids of a text and of a conversation", "[end_to_end]") {
  const test::CommandJob job;
  const auto text = job.run({"tokenize", "--json", "--model", job.model, "--text", "Yes <|im_end|>"});
  INFO(text.err);
  REQUIRE(text.exit_code == 0);
  CHECK(json::parse(text.out)["text"] == "Yes <|im_end|>");
  const std::string messages = job.folder.write("m.json", R"([{"role": "user", "content": "Yes"}])").string();
  const auto chat =
      job.run({"tokenize", "--json", "--model", job.model, "--messages", messages, "--add-generation-prompt"});
  REQUIRE(chat.exit_code == 0);
  CHECK(json::parse(chat.out)["text"] == "<|im_start|>user\nYes<|im_end|>\n<|im_start|>assistant\n");
  require_one_fault(job.run({"tokenize", "--model", job.model}), "--text and --messages");
}

TEST_CASE("tokenize takes tools of either file, and refuses those that the template never reads", "[end_to_end]") {
  const test::CommandJob job;
  const auto conversation =
      job.folder.write("m.json", R"({"messages": [{"role": "user", "content": "Yes"}], "tools": [{"name": "f"}]})")
          .string();
  const auto messages = job.folder.write("plain.json", R"([{"role": "user", "content": "Yes"}])").string();
  const auto tools = job.folder.write("t.json", R"([{"name": "f"}])").string();
  const auto tokenize = [&](std::vector<std::string> files) {
    files.insert(files.begin(), {"tokenize", "--json", "--model", job.model, "--messages"});
    return job.run(files);
  };
  for (const auto& files : {std::vector{conversation}, std::vector{messages, std::string("--tools"), tools}}) {
    const auto run = tokenize(files);
    CHECK(run.exit_code == 3);
    CHECK_THAT(run.err, ContainsSubstring("never reads tools"));
  }
  job.folder.write("model/chat_template.jinja",
                   std::string("{% for t in tools or [] %}[{{ t.name }}]{% endfor %}") + kChatml);
  for (const auto& files : {std::vector{conversation}, std::vector{messages, std::string("--tools"), tools}}) {
    const auto run = tokenize(files);
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    CHECK_THAT(json::parse(run.out)["text"].get<std::string>(), StartsWith("[f]<|im_start|>user\nYes"));
  }
  CHECK(tokenize({conversation, "--tools", tools}).exit_code == 2);
}

TEST_CASE("tokenize finds models in the hub cache and says how to download others", "[end_to_end]") {
  const test::CommandJob job;
  setenv("HF_HUB_CACHE", job.in("hub").c_str(), 1);
  job.folder.write("hub/models--owner--tiny/refs/main", "abc");
  std::filesystem::create_directories(job.folder / "hub/models--owner--tiny/snapshots");
  std::filesystem::rename(job.model, job.folder / "hub/models--owner--tiny/snapshots/abc");
  const auto found = job.run({"tokenize", "--json", "--model", "owner/tiny", "--text", "Yes"});
  const auto missing = job.run({"tokenize", "--json", "--model", "owner/other", "--text", "Yes"});
  unsetenv("HF_HUB_CACHE");
  INFO(found.err);
  CHECK(found.exit_code == 0);
  CHECK(missing.exit_code == 4);
  CHECK_THAT(missing.err, ContainsSubstring("hf download owner/other"));
}

TEST_CASE("recipes lists and prints what ships, env says what this is", "[end_to_end]") {
  const test::CommandJob job;
  CHECK_THAT(job.run({"recipes"}).out, ContainsSubstring("smollm2_135m_function_calling"));
  const auto recipe = job.run({"recipes", "smollm2_135m_function_calling"});
  CHECK(recipe.out ==
        test::read_file(std::filesystem::path(DSFT_SOURCE_DIR) / "recipes/sft/smollm2_135m_function_calling.yaml"));
  require_one_fault(job.run({"recipes", "smollm2_135m_function_caling"}), "did you mean");
  // a description is its whole first sentence, also over the end of a line
  CHECK_THAT(job.run({"recipes"}).out, ContainsSubstring("without one row seeing another, every token supervised.\n") &&
                                           ContainsSubstring("its own chat template renders tools).\n") &&
                                           ContainsSubstring("\ntemplates/smollm2_tools.jinja\n"));
  CHECK(job.run({"recipes", "smollm2_tools.jinja"}).out ==
        test::read_file(std::filesystem::path(DSFT_SOURCE_DIR) / "recipes/templates/smollm2_tools.jinja"));
  CHECK(job.run({"recipes", "recipes/configs/qwen3_0.6b.json"}).out ==
        test::read_file(std::filesystem::path(DSFT_SOURCE_DIR) / "recipes/configs/qwen3_0.6b.json"));
  CHECK(job.run({"recipes", "concise_answer.py"}).out ==
        test::read_file(std::filesystem::path(DSFT_SOURCE_DIR) / "recipes/rewards/concise_answer.py"));
  CHECK_THAT(job.run({"recipes", "--rewards"}).out,
             ContainsSubstring("math_answer\n") && ContainsSubstring("partial: false"));
  const json facts = json::parse(job.run({"env", "--json"}).out);
  for (const char* name :
       {"dsft", "libtorch", "cuda", "nccl", "mpi", "trainer", "cpu", "cores", "memory", "driver", "gpus"})
    CHECK(facts.contains(name));
  CHECK_THAT(facts["libtorch"].get<std::string>(), Catch::Matchers::Matches("2\\.11\\.[0-9]+(\\+[a-z0-9.]+)? at /.*"));
  CHECK_THAT(facts["mpi"].get<std::string>(), Catch::Matchers::Matches("(Open MPI [0-9.]+ \\()?MPI [0-9.]+\\)?"));
  CHECK((facts["nccl"] != "not built in") <= facts["cuda_built_in"].get<bool>());
  CHECK((facts["cuda"] == "not built in") == !facts["cuda_built_in"].get<bool>());
}

TEST_CASE("launch --dry-run prints the command and runs nothing", "[end_to_end]") {
  const test::CommandJob job;
  const auto one = job.run({"launch", "--dry-run", "--num-procs", "1", job.recipe});
  INFO(one.err);
  REQUIRE(one.exit_code == 0);
  CHECK_THAT(one.out, ContainsSubstring("dsft-trainer train") && !ContainsSubstring("mpirun"));
  const auto two = job.run({"launch", "--dry-run", "--num-procs", "2", job.recipe, "seed=7"});
  CHECK_THAT(two.out, ContainsSubstring("mpirun") && ContainsSubstring("seed=7"));
  CHECK(!std::filesystem::exists(job.folder / "run"));
}

TEST_CASE("launch starts the processes of an Accelerate file, and checks a DeepSpeed file's batch against them",
          "[end_to_end]") {
  const test::CommandJob job;
  const std::string accelerate =
      "accelerate=" +
      job.folder.write("acc.yaml", "distributed_type: MULTI_CPU\nuse_cpu: true\nnum_processes: 3\n").string();
  const auto three = job.run({"launch", "--dry-run", job.recipe, accelerate});
  INFO(three.err);
  REQUIRE(three.exit_code == 0);
  CHECK_THAT(three.out, ContainsSubstring("-n 3 ") || ContainsSubstring("-np 3 "));
  const auto one = job.run({"launch", "--dry-run", "--num-procs", "1", job.recipe, accelerate});
  CHECK_THAT(one.out, !ContainsSubstring("mpirun"));
  const std::string deepspeed = "deepspeed=" + job.folder.write("ds.json", "{\"train_batch_size\": 8}").string();
  require_one_fault(job.run({"launch", "--dry-run", job.recipe, accelerate, deepspeed}), "3 ranks x a whole number");
}

TEST_CASE("what another launcher placed is a rank where it says enough, and starts no job of its own", "[end_to_end]") {
  const test::CommandJob job;
  const auto run = [&](const char* command) {
    return test::run_dsft({command, job.recipe}, job.folder, "", {{"RANK", "0"}, {"WORLD_SIZE", "2"}});
  };
  require_one_fault(run("launch"), "run `dsft launch` once");
  require_one_fault(test::run_dsft({"launch", job.recipe}, job.folder, "",
                                   {{"OMPI_COMM_WORLD_SIZE", "2"}, {"OMPI_COMM_WORLD_RANK", "0"}}),
                    "Open MPI's mpirun has placed 2 processes");
  for (const char* command : {"train", "eval"}) {
    INFO(command);
    const test::ProgramRun half_placed = run(command);
    CHECK(half_placed.exit_code == 6);
    CHECK_THAT(half_placed.err, StartsWith("error: ") && ContainsSubstring("LOCAL_RANK is not set"));
  }
  CHECK(!std::filesystem::exists(job.folder / "run"));
}

TEST_CASE("eval --help says that the recipe gives the type and the device", "[end_to_end]") {
  const test::CommandJob job;
  CHECK_THAT(job.run({"eval", "--help"}).out,
             ContainsSubstring("the recipe's model.dtype") && ContainsSubstring("the recipe's device"));
  CHECK_THAT(job.run({"score", "--help"}).out, ContainsSubstring("bf16 on CUDA, fp32 on CPU"));
}

TEST_CASE("what is not built yet, or not there, is one clear fault", "[end_to_end]") {
  const test::CommandJob job;
  require_one_fault(job.run({"chat"}), "`dsft chat` is not built yet");
  require_one_fault(job.run({"launch", "--hostfile", "hosts", job.recipe}),
                    "--hostfile hosts cannot be read: No such file or directory");
}
