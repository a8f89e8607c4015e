#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "catch_amalgamated.hpp"
#include "end_to_end/run_dsft.h"
#include "support/tiny_checkpoint.h"

namespace dsft::test {

inline constexpr const char* kChatml =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A folder with a model, three conversations and a recipe.
struct CommandJob {
  TempDir folder;
  std::string model = write_tiny_checkpoint(folder, "model").string();
  std::string recipe;

  CommandJob() {
    folder.write("model/chat_template.jinja", kChatml);
    std::string rows;
    for (int i = 0; i < 3; ++i)
      rows += R"({"messages": [{"role": "user", "content": "What is )" + std::to_string(i) +
              R"(?"}, {"role": "assistant", "content": "Yes & no."}]})" + "\n";
    const std::string train = folder.write("rows.jsonl", rows).string();
    recipe = folder
                 .write("recipe.yaml", "recipe: sft\noutput_dir: " + in("run") + "\nmodel: {path: " + model +
                                           "}\nlora: {r: 4}\ndata: {train: [" + train +
                                           "]}\ntraining: {learning_rate: 1.0e-3}\n")
                 .string();
  }
  std::string in(const std::string& name) const { return (folder / name).string(); }
  ProgramRun run(std::vector<std::string> arguments) const { return run_dsft(std::move(arguments), folder); }
  ProgramRun check(std::vector<std::string> overrides = {}) const {
    overrides.insert(overrides.begin(), {"check", "--json", recipe});
    return run(std::move(overrides));
  }
};

/// A usage fault of one line, without a document.
inline void require_one_fault(const ProgramRun& run, const std::string& part) {
  INFO(run.err);
  CHECK(run.exit_code == 2);
  CHECK(run.out.empty());
  CHECK_THAT(run.err, Catch::Matchers::StartsWith("error: ") && Catch::Matchers::ContainsSubstring(part));
  CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
}

}  // namespace dsft::test
