// What check says of a recipe whose model, adapter and data are on disk.
#include "recipe_config/input_checks.h"

#include <fstream>

#include "recipe_config/adapter_checks.h"
#include "spec/adapter_inventory.h"
#include "spec/adapter_settings.h"
#include "support/require_error.h"
#include "support/tiny_checkpoint.h"

using namespace dsft;
using namespace dsft::recipe_config;
using Catch::Matchers::ContainsSubstring;

namespace {

/// A folder with a model, an adapter, rows and a chat template, and a recipe of them.
struct Fixture {
  test::TempDir folder;
  std::string model = test::write_tiny_checkpoint(folder, "model").string();
  std::string adapter = test::write_tiny_adapter(folder, "adapter").string();
  std::string rows = folder.write("rows.jsonl", "{\"text\": \"Hi\"}\n").string();

  InputReport report(const std::vector<std::string>& overrides = {}) const {
    setenv("DSFT_CACHE", (folder / "cache").c_str(), 1);
    const std::string text = "recipe: sft\noutput_dir: " + (folder / "run").string() + "\nmodel: {path: " + model +
                             "}\ndata: {train: [" + rows + "]}\n";
    RecipeReading reading = read_recipe_text(text, "r.yaml", overrides);
    REQUIRE(reading.is_ok());
    resolve_defaults(reading.config, /*has_cuda=*/false);
    return check_inputs(reading.config, reading.written, Logger(-1));
  }

  /// Every fault as "CODE key: message", one a line.
  std::string faults(const std::vector<std::string>& overrides = {}) const {
    std::string all;
    for (const InputFault& found : report(overrides).faults)
      all += concat(static_cast<int>(found.kind), " ", found.fault.key, ": ", found.fault.message, "\n");
    return all;
  }
  /// Every warning as "key: message", one a line.
  std::string warnings(const std::vector<std::string>& overrides) const {
    std::string all;
    for (const config::Fault& found : report(overrides).warnings) all += found.key + ": " + found.message + "\n";
    return all;
  }
  /// What the run itself says of the recipe before it starts.
  std::vector<std::string> run_warnings(const std::vector<std::string>& overrides) const {
    const std::string text = "recipe: sft\noutput_dir: " + (folder / "run").string() + "\nmodel: {path: " + model +
                             "}\ndata: {train: [" + rows + "]}\n";
    std::ofstream(folder / "r.yaml") << text;
    std::vector<std::string> warnings;
    load_run_recipe(folder / "r.yaml", overrides, /*has_cuda=*/false, warnings);
    return warnings;
  }
  std::string in(const std::string& name) const { return (folder / name).string(); }
};

}  // namespace

namespace {

/// Whose reward compares with a column.
std::vector<std::string> grpo(const Fixture& fixture, const std::string& rows, const std::string& reward,
                              const std::string& chat_template = "{{ messages[0].content }}") {
  return {"recipe=grpo", "data.train=[" + fixture.folder.write("prompts.jsonl", rows).string() + "]",
          "data.chat_template=" + fixture.folder.write("own.jinja", chat_template).string(),
          "grpo.rewards=[" + reward + "]"};
}

}  // namespace

TEST_CASE("columns of prompts are judged as the run does: an answer is one, what the prompt is made of is none",
          "[recipe_config]") {
  const Fixture fixture;
  const std::string of_messages =
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})"
      "\n";
  CHECK(fixture.faults(grpo(fixture, of_messages, "{name: tool_call, column: completion}")) == "");
  const std::string of_instruction =
      "\n"
      R"({"instruction": "a", "input": "b", "output": "c"})"
      "\n";
  CHECK_THAT(fixture.faults(grpo(fixture, of_instruction, "{name: math_answer, column: input}")),
             ContainsSubstring("3 data.train: ") &&
                 ContainsSubstring("prompts.jsonl:2: there is no column \"input\"") &&
                 ContainsSubstring("the row has \"output\" and \"completion\""));
  CHECK(fixture.faults(grpo(fixture, of_instruction, "{name: math_answer, column: output}")) == "");
  const std::string of_null = R"({"prompt": null, "answer": "4"})"
                              "\n";
  CHECK_THAT(fixture.faults(grpo(fixture, of_null, "json_valid")),
             ContainsSubstring("3 data.train: ") && ContainsSubstring("prompts.jsonl:1: the row has the fields"));
  CHECK_THAT(fixture.faults(grpo(fixture, "", "json_valid")), ContainsSubstring("3 data.train: there is no row"));
}

TEST_CASE("what a run of grpo would refuse is refused before it", "[recipe_config]") {
  const Fixture fixture;
  const std::string of_list = R"({"prompt": "a", "answer": ["4"]})"
                              "\n";
  CHECK_THAT(fixture.faults(grpo(fixture, of_list, "math_answer")),
             ContainsSubstring("3 data.train: ") &&
                 ContainsSubstring("prompts.jsonl:1: the reward `math_answer` cannot compare") &&
                 ContainsSubstring("the column `answer` holds neither text"));
  const std::string rows = R"({"prompt": [{"role": "user", "content": "a"}], "answer": "4"})"
                           "\n";
  CHECK_THAT(
      fixture.faults(grpo(fixture, rows, "{command: pyton3 judge.py, name: judge}, {command: rubi j.rb, name: other}")),
      ContainsSubstring("3 grpo.rewards: the reward `judge`: there is no program `pyton3`") &&
          ContainsSubstring("the reward `other`: there is no program `rubi`"));
  auto agents = grpo(fixture, rows, "math_answer", "{{ messages[-1].content }}");
  agents.emplace_back("grpo.agents=[{name: a, system_prompt: Be brief.}, {name: b, system_prompt: Take time.}]");
  CHECK_THAT(fixture.faults(agents),
             ContainsSubstring("4 data.train: ") && ContainsSubstring("makes the same prompt for `a` and `b`"));
}

TEST_CASE("the longest prompt of a grpo recipe is known where its tokenizer is", "[recipe_config]") {
  const Fixture fixture;
  const std::string rows = R"({"prompt": "a"})"
                           "\n"
                           R"({"token_ids": [5, 6, 7, 8, 9, 10, 11]})"
                           "\n";
  const InputReport report = fixture.report(grpo(fixture, rows, "json_valid"));
  CHECK(report.num_prompts == 2);
  CHECK(report.longest_prompt == 7);
  const auto warnings_of = [&](const std::string& length) {
    auto settings = grpo(fixture, rows, "json_valid");
    settings.push_back("grpo.max_completion_length=" + length);
    return fixture.warnings(settings);
  };
  CHECK_THAT(warnings_of("4"), !ContainsSubstring("the longest prompt"));
  CHECK_THAT(warnings_of("1000000"),
             ContainsSubstring("data.train: the longest prompt has 7 tokens; with a completion of 1000000") &&
                 !ContainsSubstring("data.eval"));
  std::filesystem::remove(fixture.folder / "model/tokenizer.json");
  // without it rows are looked at all the same
  const auto missing = grpo(fixture, rows, "{name: math_answer}");
  CHECK_THAT(fixture.faults(missing),
             ContainsSubstring("there is no column \"answer\"") && ContainsSubstring("4 model.path: "));
  CHECK(fixture.report(grpo(fixture, rows, "json_valid")).longest_prompt == 0);
}

TEST_CASE("an adapter's dropout is not disabled", "[recipe_config]") {
  const Fixture fixture;
  std::vector<std::string> overrides = grpo(fixture,
                                            R"({"prompt": "a"})"
                                            "\n",
                                            "json_valid");
  overrides.insert(overrides.end(), {"lora.adapter=" + fixture.adapter, "grpo.disable_dropout=true"});
  CHECK(fixture.faults(overrides) == "");
  fixture.folder.write(
      "adapter/adapter_config.json",
      R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "lora_dropout": 0.25, "target_modules": ["q_proj"]})");
  CHECK_THAT(fixture.faults(overrides),
             ContainsSubstring("2 grpo.disable_dropout: contradicts the adapter of lora.adapter (" + fixture.adapter +
                               "), whose lora_dropout is 0.25"));
}

TEST_CASE("ranks on a host are the files', else its GPUs', and one on a CPU", "[recipe_config]") {
  RecipeConfig config;
  CHECK(ranks_on_host(config, 8) == 8);
  CHECK(ranks_on_host(config, 0) == 1);
  config.run.train_batch_size = {.num_rows = 16, .position = {}};  // any number of ranks can have it
  CHECK(ranks_on_host(config, 8) == 8);
  config.device = device::DeviceChoice::kCpu;
  CHECK(ranks_on_host(config, 8) == 1);
  config.run.num_processes = {.number = 4, .position = {}};
  CHECK(ranks_on_host(config, 8) == 4);
}

TEST_CASE("a sound recipe has no fault", "[recipe_config]") {
  const Fixture fixture;
  CHECK(fixture.faults() == "");
  CHECK(fixture.faults({"lora.r=4"}) == "");
  CHECK(fixture.faults({"lora.adapter=" + fixture.adapter}) == "");
}

TEST_CASE("everything that is missing is said at once", "[recipe_config]") {
  const Fixture fixture;
  const std::string faults = fixture.faults({"model.path=" + fixture.in("nowhere"), "data.train=[a.jsonl, b.jsonl]",
                                             "data.eval=[c.jsonl]", "data.chat_template=d.jinja"});
  CHECK_THAT(faults, ContainsSubstring("4 model.path: ") && ContainsSubstring("3 data.train: ") &&
                         ContainsSubstring("a.jsonl") && ContainsSubstring("b.jsonl") &&
                         ContainsSubstring("3 data.eval: ") && ContainsSubstring("c.jsonl") &&
                         ContainsSubstring("4 data.chat_template: ") && ContainsSubstring("d.jinja"));
}

TEST_CASE("a tokenizer that cannot be read hides no fault of the weights", "[recipe_config]") {
  const Fixture fixture;
  fixture.folder.write("model/tokenizer.json", "{");
  std::filesystem::remove(fixture.folder / "model/model.safetensors");
  CHECK_THAT(fixture.faults(),
             ContainsSubstring("tokenizer.json") && ContainsSubstring("holds neither model.safetensors"));
}

TEST_CASE("bad rows of both lists are said, each at its key", "[recipe_config]") {
  const Fixture fixture;
  const std::string bad = fixture.folder.write("bad.jsonl", "{\"text\": 1}\n").string();
  const std::string faults = fixture.faults({"data.train=[" + bad + "]", "data.eval=[" + bad + "]"});
  CHECK_THAT(faults, ContainsSubstring("3 data.train: ") && ContainsSubstring("3 data.eval: "));
}

TEST_CASE("paths that the system does not take are faults, not bugs", "[recipe_config]") {
  const Fixture fixture;
  std::filesystem::create_symlink("b", fixture.folder / "a");
  std::filesystem::create_symlink("a", fixture.folder / "b");
  for (const std::string& path : {fixture.in("a"), fixture.in("a/model"), std::string(300, 'x')}) {
    INFO(path);
    CHECK_THAT(fixture.faults({"model.path=" + path}), ContainsSubstring("4 model.path: "));
    CHECK_THAT(fixture.faults({"lora.adapter=" + path}), ContainsSubstring("4 lora.adapter: "));
    CHECK_THAT(fixture.faults({"data.chat_template=" + path}), ContainsSubstring("4 data.chat_template: "));
    CHECK_THAT(fixture.faults({"data.train=[" + path + ".jsonl]"}), ContainsSubstring("3 data.train: "));
  }
}

TEST_CASE("an adapter that does not fit is the adapter's fault", "[recipe_config]") {
  const Fixture fixture;
  fixture.folder.write("adapter/adapter_config.json",
                       R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["c_attn"]})");
  const std::string faults = fixture.faults({"lora.adapter=" + fixture.adapter});
  CHECK_THAT(faults, ContainsSubstring("4 lora.adapter: ") && ContainsSubstring("c_attn"));
  CHECK_THAT(faults, !ContainsSubstring("2 lora"));
}

TEST_CASE("an adapter whose list holds names of other families loads as with PEFT", "[recipe_config]") {
  const Fixture fixture;
  fixture.folder.write("adapter/adapter_config.json",
                       R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["c_attn", "q_proj"]})");
  CHECK(fixture.faults({"lora.adapter=" + fixture.adapter}) == "");
}

TEST_CASE("LoRA names that match nothing are said by check and by the run", "[recipe_config]") {
  const Fixture fixture;
  const std::vector<std::string> misspelt = {"lora.target_modules=[q_proj, kproj]"};
  CHECK_THAT(fixture.faults(misspelt), ContainsSubstring("2 lora.target_modules: `kproj` matches no module") &&
                                           ContainsSubstring("did you mean `k_proj`?"));
  test::require_error(ErrorKind::kUsage, {"lora.target_modules: `kproj`"}, [&] { fixture.run_warnings(misspelt); });
  const std::vector<std::string> unused = {"lora.target_modules=[q_proj]", "lora.rank_pattern={k_proj: 4}",
                                           "lora.exclude_modules=[c_attn]", "data.max_length=8"};
  CHECK(fixture.faults(unused) == "");
  CHECK_THAT(fixture.warnings(unused), ContainsSubstring("lora.rank_pattern: `k_proj` has no effect") &&
                                           ContainsSubstring("lora.exclude_modules: `c_attn` has no effect"));
  CHECK(fixture.run_warnings(unused).size() == 2);
}

TEST_CASE("template variables that are never read and rows beyond the model's positions are said", "[recipe_config]") {
  const Fixture fixture;
  const std::string own =
      "data.chat_template=" + fixture.folder.write("own.jinja", "{{ messages[0].content if thinks }}").string();
  const std::vector<std::string> settings = {own, "data.chat_template_kwargs={thinks: true, enable_thinking: no}",
                                             "data.max_length=100000"};
  CHECK_THAT(fixture.warnings(settings),
             ContainsSubstring("data.chat_template_kwargs: has no effect: the chat template never reads "
                               "`enable_thinking`\n") &&
                 ContainsSubstring("data.max_length: rows may have up to 100000 tokens, but the model knows ") &&
                 ContainsSubstring("(max_position_embeddings)"));
  CHECK(fixture.run_warnings(settings).size() == 2);
  CHECK(fixture.warnings({own, "data.chat_template_kwargs={thinks: true}", "data.max_length=8"}) == "");
}

TEST_CASE("a key that contradicts the adapter is a fault, one that agrees is not", "[recipe_config]") {
  const Fixture fixture;
  const std::string adapter = "lora.adapter=" + fixture.adapter;
  CHECK(fixture.faults({adapter, "lora.r=2", "lora.lora_alpha=4", "lora.target_modules=[q_proj]"}) == "");
  CHECK(fixture.faults({adapter, "lora.target_modules='.*q_proj'", "lora.init_lora_weights=gaussian"}) == "");
  CHECK_THAT(
      fixture.faults({adapter, "lora.r=8"}),
      ContainsSubstring("2 lora.r: contradicts the adapter of lora.adapter (" + fixture.adapter + "), whose r is 2"));
  CHECK_THAT(fixture.faults({adapter, "lora.target_modules=all-linear"}), ContainsSubstring("2 lora.target_modules: "));
  CHECK_THAT(fixture.faults({adapter, "lora.lora_dropout=0.1"}), ContainsSubstring("2 lora.lora_dropout: "));
}

TEST_CASE("the resolved recipe of an adapter shows its settings", "[recipe_config]") {
  const Fixture fixture;
  RecipeConfig config;
  config.lora.emplace().adapter = fixture.adapter;
  adopt_adapter(config);
  CHECK(config.lora->r == 2);
  CHECK(config.lora->lora_alpha == 4);
  CHECK(config.lora->target_modules.names == std::vector<std::string>{"q_proj"});
  CHECK(config.lora->adapter == fixture.adapter);
}

TEST_CASE("a run may not write where it reads", "[recipe_config]") {
  const Fixture fixture;
  std::filesystem::create_directory_symlink(fixture.model, fixture.folder / "link");
  std::filesystem::create_directories(fixture.folder / "run");
  for (const std::string& same : {fixture.model, fixture.model + "/", fixture.in("run/../model"), fixture.in("link")})
    CHECK_THAT(fixture.faults({"output_dir=" + same}), ContainsSubstring("2 output_dir: is the folder of model.path"));
  CHECK_THAT(fixture.faults({"training.output_dir=" + fixture.adapter, "output_dir=" + fixture.adapter,
                             "lora.adapter=" + fixture.adapter}),
             ContainsSubstring("2 training.output_dir: is the folder of lora.adapter"));
  std::filesystem::rename(fixture.adapter, fixture.folder / "run/checkpoint-5");
  CHECK_THAT(fixture.faults({"lora.adapter=" + fixture.in("run/checkpoint-5")}),
             ContainsSubstring("2 output_dir: holds the checkpoint of lora.adapter"));
  CHECK(fixture.faults({"output_dir=" + fixture.in("model/run")}) == "");
}

TEST_CASE("a run that could not write or go on is a fault", "[recipe_config]") {
  const Fixture fixture;
  CHECK_THAT(fixture.faults({"output_dir=" + fixture.rows}), ContainsSubstring("2 output_dir: cannot be written: "));
  CHECK_THAT(fixture.faults({"output_dir=" + fixture.rows + "/run"}), ContainsSubstring("rows.jsonl is no folder"));
  CHECK_THAT(fixture.faults({"training.resume_from_checkpoint=" + fixture.in("nowhere")}),
             ContainsSubstring("4 training.resume_from_checkpoint: ") && ContainsSubstring("does not exist"));
  CHECK_THAT(fixture.faults({"training.resume_from_checkpoint=" + fixture.rows}), ContainsSubstring("is a file"));
  CHECK_THAT(fixture.faults({"training.resume_from_checkpoint=" + fixture.model}),
             ContainsSubstring("no whole checkpoint"));
  fixture.folder.write("saved/dsft_state/manifest.json", "x");
  CHECK_THAT(fixture.faults({"training.resume_from_checkpoint=" + fixture.in("saved")}),
             ContainsSubstring("4 training.resume_from_checkpoint: ") && ContainsSubstring("manifest.json"));
  fixture.folder.write("saved/dsft_state/manifest.json", "{}");
  fixture.folder.write("saved/dsft_state/random.json", R"({"seed": 41})");
  CHECK_THAT(fixture.faults({"training.resume_from_checkpoint=" + fixture.in("saved")}), ContainsSubstring("seed 41"));
  CHECK(fixture.faults({"training.resume_from_checkpoint=" + fixture.in("saved"), "seed=41"}) == "");
  CHECK_THAT(fixture.faults({"output_dir=" + fixture.in("saved")}),
             ContainsSubstring("2 output_dir: is a checkpoint of a run"));
  CHECK(fixture.faults({"training.resume_from_checkpoint=true"}) == "");
}

TEST_CASE("an evaluation that could not judge is a fault", "[recipe_config]") {
  const Fixture fixture;
  const std::string at_start = "training.eval_on_start=true";
  CHECK_THAT(fixture.faults({at_start, "data.eval_fraction=0.000001"}),
             ContainsSubstring("2 data.eval: ") && ContainsSubstring("holds none"));
  const std::string eval = "data.eval=[" + fixture.rows + "]";
  CHECK(fixture.faults({at_start, eval}) == "");
  CHECK_THAT(fixture.faults({at_start, eval, "eval.metrics=[loss, tool_call]"}),
             ContainsSubstring("3 data.eval: no evaluation row has an assistant turn"));
  const std::string answers =
      fixture.folder.write("answers.jsonl", "{\"text\": \"Hi\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}\n")
          .string();
  CHECK(fixture.faults({at_start, "data.eval=[" + answers + "]", "eval.metrics=[exact_match]"}) == "");
  CHECK(fixture.faults({"eval.metrics=[tool_call]"}) == "");  // nothing is evaluated
}

TEST_CASE("rows are rendered by the adapter's template where it has one", "[recipe_config]") {
  const Fixture fixture;
  const std::string rows =
      fixture.folder
          .write("tools.jsonl",
                 R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],)"
                 R"( "tools": [{"type": "function", "function": {"name": "f"}}]})"
                 "\n")
          .string();
  const std::string turns =
      "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}";
  fixture.folder.write("model/chat_template.jinja", turns);
  const std::vector<std::string> overrides = {"lora.adapter=" + fixture.adapter, "data.train=[" + rows + "]"};
  CHECK_THAT(fixture.faults(overrides), ContainsSubstring("3 data.train: ") && ContainsSubstring("never reads tools"));
  fixture.folder.write("adapter/chat_template.jinja", "{{ tools }}" + turns);
  CHECK_THAT(fixture.faults(overrides), ContainsSubstring("never reads tools"));  // no tokenizer.json: not its folder
  for (const char* file : {"tokenizer.json", "tokenizer_config.json"})
    std::filesystem::copy_file(fixture.folder / "model" / file, fixture.folder / "adapter" / file);
  CHECK(fixture.faults(overrides) == "");
}

TEST_CASE("an adapter's folder in place of a model says which base it is for", "[recipe_config]") {
  const Fixture fixture;
  fixture.folder.write(
      "adapter/adapter_config.json",
      R"({"peft_type": "LORA", "r": 2, "base_model_name_or_path": "me/base", "target_modules": ["q_proj"]})");
  CHECK_THAT(fixture.faults({"model.path=" + fixture.adapter}),
             ContainsSubstring("4 model.path: ") && ContainsSubstring("me/base") && ContainsSubstring("--adapter "));
}

TEST_CASE("what a model's config.json asks for in vain is a warning at its key", "[recipe_config]") {
  const Fixture fixture;
  std::string config = test::read_file(fixture.folder / "model/config.json");
  config.insert(config.find('{') + 1, "\"attention_dropout\": 0.1, ");
  fixture.folder.write("model/config.json", config);
  const std::vector<config::Fault> warnings = fixture.report().warnings;
  const auto found = std::find_if(warnings.begin(), warnings.end(),
                                  [](const config::Fault& warning) { return warning.key == "model.path"; });
  REQUIRE(found != warnings.end());
  CHECK_THAT(found->message, ContainsSubstring("attention_dropout"));
}

TEST_CASE("a token that the embedding has no row for is a fault", "[recipe_config]") {
  const Fixture fixture;
  fixture.folder.write("model/generation_config.json", R"({"eos_token_id": [2, 1024], "pad_token_id": 5000})");
  CHECK_THAT(fixture.faults(), ContainsSubstring("4 model.path: ") && ContainsSubstring("the token 1024"));
}

TEST_CASE("an adapter with PEFT's copy of the output embedding fits", "[recipe_config]") {
  const auto directory = test::fixture_path("spec/adapter_with_head_weight");
  const auto spec = spec::read_model_spec(test::fixture_path("checkpoint/base"));
  const auto weights = io::SafetensorsSet::open(directory, "adapter_model");
  REQUIRE(weights.find("base_model.model.lm_head.base_layer.weight"));
  const auto settings = spec::read_adapter_settings(directory);
  CHECK(spec::check_adapter(spec::adapter_inventory(spec, settings.lora), weights).empty());
  lora::LoraConfig other = settings.lora;
  other.target_modules.names = {"q_proj"};
  CHECK(!spec::check_adapter(spec::adapter_inventory(spec, other), weights).empty());
}
