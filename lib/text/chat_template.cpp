#include "text/chat_template.h"

#include <map>

#include "base/error.h"
#include "io/file.h"
#include "io/json.h"
#include "text/jinja_fault.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_json.h"
#include "text/jinja_parser.h"

namespace dsft::text {

namespace {

using jinja::Origin;
using jinja::Value;

constexpr size_t kMaxConfigBytes = 64u << 20;

// A role is the one piece of a row that templates build their own markup from ("<|" + role + "|>"), so a plain word
// counts as the template's.
bool is_plain_word(const std::string& text) {
  constexpr std::string_view kAccepted = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
  return text.find_first_not_of(kAccepted) == std::string::npos;
}

Value value_of_message(const Json& message, int32_t index) {
  const Origin data{index, Origin::kNoMessage, true, false};
  Value value = jinja::value_of_json(message, data);
  if (!value.as_mapping()) return value;
  jinja::Mapping mapping = *value.as_mapping();
  mapping.message = index;
  for (auto& [key, item] : mapping.entries) {
    if (key.as_text()->bytes() != "role" || !item.as_text() || !is_plain_word(item.as_text()->bytes())) continue;
    item = Value(jinja::Text(item.as_text()->bytes(), Origin{index, Origin::kNoMessage, false, false}));
  }
  return jinja::make_mapping(std::move(mapping));
}

Value value_of_messages(const Json& messages) {
  if (!messages.is_array())
    fail(ErrorKind::kData, "the messages of a conversation must be a list, not ", messages.type_name());
  std::vector<Value> items;
  items.reserve(messages.size());
  for (const Json& message : messages) items.push_back(value_of_message(message, static_cast<int32_t>(items.size())));
  return jinja::make_list(std::move(items));
}

void define_input(jinja::Interpreter& interpreter, const ChatInput& input, const SpecialTokenMap& special_tokens) {
  const Origin data{Origin::kNoMessage, Origin::kNoMessage, true, false};
  for (const auto& [name, token] : special_tokens) interpreter.define(name, Value::words(token));
  interpreter.define("messages", value_of_messages(input.messages));
  interpreter.define("tools", jinja::value_of_json(input.tools, data));
  interpreter.define("documents", Value());
  interpreter.define("add_generation_prompt", Value(input.add_generation_prompt));
  for (const Json* kwargs : {&input.kwargs, &input.row_kwargs}) {
    if (!kwargs->is_object() && !kwargs->is_null())
      fail(ErrorKind::kData, "chat_template_kwargs must be a JSON object, not ", kwargs->type_name());
    for (const auto& [name, value] : kwargs->items()) {
      const bool is_of_row = kwargs == &input.row_kwargs || name == "documents";
      interpreter.define(name, jinja::value_of_json(value, is_of_row ? data : Origin{}));
    }
  }
}

RenderedChat to_rendered(const jinja::Text& text, bool has_generation_tag) {
  RenderedChat chat;
  chat.text = text.bytes();
  chat.has_generation_tag = has_generation_tag;
  size_t begin = 0;
  for (const jinja::OriginRun& run : text.runs()) {
    const Origin& origin = run.origin;
    RenderedChat::Span span{begin, run.end, origin.message, origin.turn, origin.is_data, origin.is_generation};
    begin = run.end;
    if (!chat.spans.empty() && chat.spans.back().has_same_origin(span)) {
      chat.spans.back().end = run.end;
    } else {
      chat.spans.push_back(span);
    }
  }
  return chat;
}

using NamedTemplates = std::map<std::string, std::string>;

[[noreturn]] void fail_template_field(const std::string& path) {
  fail(ErrorKind::kCheckpoint, path, ": chat_template must be a string or a list of {name, template}");
}

NamedTemplates templates_of_files(const std::filesystem::path& directory) {
  NamedTemplates templates;
  const auto own = directory / "chat_template.jinja";
  if (std::filesystem::exists(own)) templates["default"] = io::read_text_file(own, kMaxConfigBytes);
  const auto others = directory / "additional_chat_templates";
  if (!std::filesystem::is_directory(others)) return templates;
  for (const auto& entry : std::filesystem::directory_iterator(others)) {
    if (entry.path().extension() == ".jinja")
      templates[entry.path().stem().string()] = io::read_text_file(entry.path(), kMaxConfigBytes);
  }
  return templates;
}

/// The templates in tokenizer_config.json: one, or some by name.
NamedTemplates templates_of_config(const Json& config, const std::string& path) {
  NamedTemplates templates;
  const auto field = config.find("chat_template");
  if (field == config.end() || field->is_null()) return templates;
  if (field->is_string()) return {{"default", field->get<std::string>()}};
  if (!field->is_array() && !field->is_object()) fail_template_field(path);
  for (const auto& [key, entry] : field->items()) {
    const bool is_named = entry.is_object() && entry.contains("name") && entry.contains("template");
    if (field->is_array() && !is_named) fail_template_field(path);
    const Json name = field->is_array() ? entry["name"] : Json(key);
    const Json& source = field->is_array() ? entry["template"] : entry;
    if (!name.is_string() || !source.is_string()) fail_template_field(path);
    templates[name.get<std::string>()] = source.get<std::string>();
  }
  return templates;
}

/// transformers' choice.
const NamedTemplates::value_type* choose_template(const NamedTemplates& templates, bool has_tools) {
  for (const char* name : {"tool_use", "default"}) {
    const auto found = templates.find(name);
    if (found != templates.end() && (has_tools || found->first == "default")) return &*found;
  }
  return nullptr;
}

}  // namespace

struct ChatTemplate::State {
  std::string source;
  std::string name;
  jinja::Template parsed;
};

ChatTemplate::ChatTemplate(std::unique_ptr<State> state) : state_(std::move(state)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

ChatTemplate ChatTemplate::parse(std::string source, std::string name) {
  auto state = std::make_unique<State>();
  state->source = std::move(source);
  state->name = std::move(name);
  try {
    state->parsed = jinja::parse(state->source);
  } catch (const jinja::SyntaxFault& fault) {
    fail(ErrorKind::kCheckpoint, "chat template ", state->name, ", line ", fault.line, ", column ", fault.column, ": ",
         fault.what());
  }
  return ChatTemplate(std::move(state));
}

std::optional<ChatTemplate> ChatTemplate::load(const std::filesystem::path& directory,
                                               const std::filesystem::path& override_file, bool has_tools) {
  if (!override_file.empty()) return parse(io::read_text_file(override_file, kMaxConfigBytes), override_file.string());
  const NamedTemplates files = templates_of_files(directory);
  if (!files.empty()) {
    const auto* chosen = choose_template(files, has_tools);
    if (!chosen) return std::nullopt;
    const bool is_own = chosen->first == "default" && std::filesystem::exists(directory / "chat_template.jinja");
    const auto file = is_own ? "chat_template.jinja" : "additional_chat_templates/" + chosen->first + ".jinja";
    return parse(chosen->second, (directory / file).string());
  }
  const auto config_path = directory / "tokenizer_config.json";
  if (!std::filesystem::exists(config_path)) return std::nullopt;
  const Json config =
      io::read_ordered_json_file(config_path, ErrorKind::kCheckpoint, {.max_size_bytes = kMaxConfigBytes});
  if (!config.is_object()) fail(ErrorKind::kCheckpoint, config_path.string(), " is no JSON object");
  const NamedTemplates templates = templates_of_config(config, config_path.string());
  const auto* chosen = choose_template(templates, has_tools);
  if (!chosen && !templates.empty())
    fail(ErrorKind::kCheckpoint, config_path.string(), ": chat_template has no template named \"default\"");
  if (!chosen) return std::nullopt;
  return parse(chosen->second, config_path.string() + " (chat_template)");
}

RenderedChat ChatTemplate::render(const ChatInput& input, const SpecialTokenMap& special_tokens) const {
  jinja::Interpreter interpreter(state_->parsed, jinja::Limits{});
  try {
    define_input(interpreter, input, special_tokens);
    return to_rendered(interpreter.run(), state_->parsed.has_generation);
  } catch (const jinja::Fault& fault) {
    const jinja::Position position = interpreter.position();
    fail(ErrorKind::kData, "chat template ", state_->name, ", line ", position.line, ", column ", position.column, ": ",
         fault.what());
  }
}

RenderedChat ChatTemplate::render(const ChatInput& input, const Tokenizer& tokenizer) const {
  return render(input, tokenizer.special_tokens());
}

bool ChatTemplate::reads_variable(std::string_view name) const {
  bool found = false;
  jinja::visit_expressions(state_->parsed.body, [&](const jinja::Expression& e) {
    found = found || (e.kind == jinja::ExpressionKind::kName && e.text == name);
  });
  return found;
}

bool ChatTemplate::reads_attribute(std::string_view name) const {
  bool found = false;
  jinja::visit_expressions(state_->parsed.body, [&](const jinja::Expression& e) {
    const jinja::Text* constant = e.kind == jinja::ExpressionKind::kConstant ? e.constant.as_text() : nullptr;
    found = found || (e.kind == jinja::ExpressionKind::kAttribute && e.text == name) ||
            (constant && constant->bytes() == name);
  });
  return found;
}

const std::string& ChatTemplate::source() const {
  return state_->source;
}

}  // namespace dsft::text
