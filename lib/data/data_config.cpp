#include "data/data_config.h"

#include <algorithm>

#include "base/error.h"
#include "config/fields.h"
#include "config/section.h"
#include "config/yaml_writer.h"

namespace dsft::config {
namespace {

constexpr int64_t kLargestWeight = 1'000'000;

void check_file_kind(const std::string& path, const Position& position, Problems& problems) {
  for (const char* extension : {".jsonl", ".json"}) {
    if (path.ends_with(extension)) return;
  }
  for (const char* extension : {".csv", ".parquet"}) {
    if (!path.ends_with(extension)) continue;
    problems.push_back(
        {position, concat("`", path, "`: ", extension,
                          " files are not built yet: they come with the tabular readers; convert it to .jsonl")});
    return;
  }
  problems.push_back(
      {position, concat("`", path, "` is neither a .jsonl nor a .json file; data sets are local files of rows")});
}

}  // namespace

template <>
struct Value<data::DataFile> {
  static std::string kind() { return "path or {path, weight}"; }

  static void read(const Node& node, data::DataFile& value, Problems& problems) {
    if (node.is_scalar() && !node.text.empty()) {
      value = {node.text, 1.0};
    } else if (node.is_map()) {
      read_map(node, value, problems);
    } else {
      add_mismatch(node, kind(), problems);
      return;
    }
    if (!value.path.empty()) check_file_kind(value.path, node.position, problems);
  }

  static void read_map(const Node& node, data::DataFile& value, Problems& problems) {
    for (const Entry& entry : node.entries) {
      if (entry.key == "path") {
        Value<std::string>::read(entry.value, value.path, problems);
      } else if (entry.key == "weight") {
        Value<double>::read(entry.value, value.weight, problems);
      } else {
        problems.push_back({entry.key_position, concat("a file has `path` and `weight`, not `", entry.key, "`")});
      }
    }
    if (value.path.empty()) problems.push_back({node.position, "a file needs a `path`"});
    if (!(value.weight > 0 && value.weight <= kLargestWeight)) {
      problems.push_back(
          {node.position, concat("the weight of a file must be greater than 0 and at most ", kLargestWeight, ", not ",
                                 value.weight, "; leave out what is not to be read")});
    }
  }

  static Node write(const data::DataFile& value) {
    if (value.weight == 1.0) return make_string(value.path);
    Node node;
    node.kind = Node::Kind::kMap;
    node.entries.push_back({"path", {}, make_string(value.path)});
    node.entries.push_back({"weight", {}, Value<double>::write(value.weight)});
    return node;
  }
};

}  // namespace dsft::config

namespace dsft::data {
namespace {

/// A map of anything, kept as JSON: only the template knows its keys.
void describe_template_kwargs(config::Fields& fields, std::string& json) {
  config::Field& field = fields.add("chat_template_kwargs", json, "Further variables of the template");
  field.kind = "map";
  field.read = [&json](const config::Node& node, config::Problems& problems) {
    if (node.is_map()) {
      json = config::write_json(node);
    } else {
      config::add_mismatch(node, "map", problems);
    }
  };
  // JSON is YAML
  field.write = [&json] { return config::make_plain(json); };
}

}  // namespace

void describe_fields(config::Fields& fields, DataConfig& config) {
  config::Field& train = fields.add("train", config.train, "Training files (.jsonl, .json)");
  train.is_required = true;
  train.later = {{"[x.csv]", "the tabular readers"}, {"[x.parquet]", "the tabular readers"}};
  train.read = [read = train.read](const config::Node& node, config::Problems& problems) {
    read(node, problems);
    if (node.is_sequence() && node.items.empty()) problems.push_back({node.position, "names no file"});
  };
  fields.add("eval", config.eval, "Evaluation files (.jsonl, .json)");
  fields.add("eval_fraction", config.eval_fraction, "Share of the training rows held out, by hash of (seed, row)",
             config::from_to_below(0, 1));
  fields.add("max_length", config.max_length, "Longest row in tokens; capacity of a bin when packing",
             config::at_least(2));
  fields.add("overlong", config.overlong, "What happens to a longer row");
  fields.add("packing", config.packing, "Fill bins of max_length tokens with rows that do not see each other");
  fields.add("loss_on", config.loss_on,
             "Supervised tokens; auto: assistant for messages, completion for prompt/completion, all for text");
  fields.add("unsupervised_rows", config.unsupervised_rows, "What happens to a row without a supervised token");
  fields.add("chat_template", config.chat_template, "Template file; null: the checkpoint's own");
  describe_template_kwargs(fields, config.chat_template_kwargs);
  fields.add("shuffle", config.shuffle, "Take the rows in a new seeded order each epoch");
  fields.add("num_workers", config.num_workers, "Threads that tokenise; null: all cores", config::at_least(1));
  fields.later("loss_channels", "the gpt-oss family");
}

void validate(const DataConfig& config, config::Section& section) {
  if (config.eval_fraction > 0 && !config.eval.empty()) {
    section.conflict("eval_fraction", "eval",
                     "either rows are held out of the training files, or evaluation files are given");
  }
  const auto has_weight = [](const DataFile& file) { return file.weight != 1.0; };
  if (std::any_of(config.eval.begin(), config.eval.end(), has_weight))
    section.warn("eval", "the weight of a file has no effect here: an evaluation reads every row once");
  if (config.num_workers.value_or(0) > kMostWorkers)
    section.warn("num_workers", concat("more than ", kMostWorkers, " threads are not started"));
  if (config.chat_template && config.chat_template->empty())
    section.fault("chat_template", "names no file; write null for the checkpoint's own");
}

}  // namespace dsft::data
