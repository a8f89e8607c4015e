#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "data/dataset.h"
#include "data/row_file.h"
#include "data/row_prompt.h"
#include "dsft/command.h"
#include "dsft/preview_rows.h"
#include "io/file.h"
#include "io/json.h"
#include "io/output_target.h"
#include "options/bounds.h"
#include "options/recipe_arguments.h"
#include "recipe_config/recipe_config.h"
#include "spec/model_spec.h"

namespace dsft::apps {
namespace {

struct PreviewOptions {
  RecipeArguments recipe;
  int64_t num_rows = 3;
  std::string html_file;
  bool is_json = false;
};

std::vector<PreviewRow> read_rows(const data::Dataset& dataset, int64_t num_rows, const text::Tokenizer& tokenizer) {
  std::vector<PreviewRow> rows;
  for (int64_t row = 0; row < std::min(num_rows, dataset.size()); ++row) {
    PreviewRow preview{dataset.describe_row(row), dataset.read(row), {}};
    preview.pieces = make_pieces(preview.example, tokenizer);
    rows.push_back(std::move(preview));
  }
  return rows;
}

/// What a policy is asked, each agent's prompt of a row one behind the other.
std::vector<PreviewRow> read_prompts(const recipe_config::RecipeConfig& recipe, int64_t num_rows,
                                     const data::TextAssets& assets) {
  const data::PromptBuilder builder(
      assets, io::parse_ordered_json(recipe.data.chat_template_kwargs, "data.chat_template_kwargs", ErrorKind::kUsage));
  const auto& agents = recipe.grpo->ensemble.agents;
  std::vector<PreviewRow> prompts;
  const auto add = [&](const std::string& origin, std::vector<int32_t> ids) {
    PreviewRow preview{origin, {.ids = std::move(ids), .labels = {}}, {}, /*is_prompt=*/true};
    preview.example.labels.assign(preview.example.ids.size(), data::kIgnored);
    preview.pieces = make_pieces(preview.example, assets.tokenizer);
    prompts.push_back(std::move(preview));
  };
  int64_t num_read = 0;
  for (const data::DataFile& file : recipe.data.train) {
    if (num_read == num_rows) break;
    data::RowFile rows = data::RowFile::open(file.path);
    for (data::RawRow raw; num_read < num_rows && rows.next(raw); ++num_read) {
      const nlohmann::ordered_json row = rows.parse(raw);
      const std::string origin = rows.describe(raw);
      try {
        if (agents.empty()) add(origin, builder.build_next(row).ids);
        for (const rl::AgentConfig& agent : agents)
          add(concat(origin, ", ", agent.name), builder.build_next(row, agent.system_prompt).ids);
      } catch (const Error& error) {
        throw data::at_row(error, origin);
      }
    }
  }
  return prompts;
}

nlohmann::ordered_json to_json(const std::vector<PreviewRow>& rows, const text::Tokenizer& tokenizer) {
  auto list = nlohmann::ordered_json::array();
  for (const PreviewRow& row : rows) {
    list.push_back({{"token_ids", row.example.ids},
                    {"labels", row.example.labels},
                    {"text", tokenizer.decode(row.example.ids, /*skip_special_tokens=*/false)}});
  }
  return list;
}

std::vector<std::string> summarise(const data::PreparedData& data) {
  std::vector<std::string> lines{"data.train: " + data::describe(data.train_counts)};
  if (data.eval_counts.read > 0) lines.push_back("data.eval: " + data::describe(data.eval_counts));
  if (data.eval->size() > 0)
    lines.push_back(concat(data.train->size(), " rows to train on, ", data.eval->size(), " to evaluate on"));
  return lines;
}

/// What the command reads, and --html must leave alone.
std::vector<std::filesystem::path> list_inputs(const PreviewOptions& options, const recipe_config::RecipeConfig& recipe,
                                               const std::filesystem::path& model) {
  std::vector<std::filesystem::path> inputs{options.recipe.recipe, model};
  for (const data::DataFile& file : recipe.data.train) inputs.emplace_back(file.path);
  for (const data::DataFile& file : recipe.data.eval) inputs.emplace_back(file.path);
  if (recipe.data.chat_template) inputs.emplace_back(*recipe.data.chat_template);
  if (recipe.lora && recipe.lora->adapter) inputs.emplace_back(*recipe.lora->adapter);
  return inputs;
}

void show(const PreviewOptions& options, const std::vector<PreviewRow>& rows, const std::vector<std::string>& summary,
          const text::Tokenizer& tokenizer) {
  if (!options.html_file.empty()) io::replace_text_file(options.html_file, to_html(rows, summary), ErrorKind::kData);
  if (options.is_json) {
    std::cout << to_json(rows, tokenizer).dump() << "\n";
    return;
  }
  if (options.html_file.empty()) std::cout << to_terminal(rows, isatty(STDOUT_FILENO) == 1);
  for (const std::string& line : summary) std::cout << line << "\n";
}

int run_preview(const PreviewOptions& options) {
  const Logger logger(0, options.is_json);
  std::vector<std::string> warnings;
  auto recipe = recipe_config::load_recipe(options.recipe.recipe, options.recipe.overrides, warnings);
  for (const std::string& warning : warnings) logger.warn(warning);
  recipe_config::resolve_defaults(recipe, /*has_cuda=*/false);  // the seed may stand in `training`
  const auto folders =
      spec::find_text_folders(spec::find_model(recipe.model.path, recipe.model.revision), recipe.adapter());
  if (!options.html_file.empty())
    io::require_no_input("--html", options.html_file, list_inputs(options, recipe, folders.model));
  if (recipe.recipe == recipe_config::RecipeKind::kGrpo) {
    const auto assets = data::TextAssets::load(folders, recipe.data.chat_template.value_or(""));
    show(options, read_prompts(recipe, options.num_rows, assets), {}, assets.tokenizer);
    return 0;
  }
  const auto data = data::prepare_data(recipe.data, {folders, {}, static_cast<uint64_t>(recipe.seed)}, logger);
  const auto tokenizer = text::Tokenizer::load(folders.text);
  show(options, read_rows(*data.train, options.num_rows, tokenizer), summarise(data), tokenizer);
  return 0;
}

}  // namespace

void add_preview_command(CLI::App& app, CommandResult& result) {
  auto options = std::make_shared<PreviewOptions>();
  CLI::App* command = app.add_subcommand("preview", "Show what the model will see, the supervised tokens marked");
  add_recipe_arguments(*command, options->recipe);
  command->add_option("--rows", options->num_rows, "Rows to show, the first of data.train that are kept")
      ->check(at_least(0))
      ->capture_default_str();
  command->add_option("--html", options->html_file, "Write a self-contained HTML page to this file");
  command->add_flag("--json", options->is_json, "One JSON array on stdout: rows of {token_ids, labels, text}");
  command->footer("Example:\n  dsft preview recipe.yaml --rows 5");
  command->callback([options, &result] { result.exit_code = run_preview(*options); });
}

}  // namespace dsft::apps
