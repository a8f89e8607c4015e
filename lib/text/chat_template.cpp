#include "text/chat_template.h"

#include <fstream>
#include <iterator>

#include "base/error.h"
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
  if (!input.kwargs.is_object() && !input.kwargs.is_null()) {
    fail(ErrorKind::kData, "chat_template_kwargs must be a JSON object, not ", input.kwargs.type_name());
  }
  for (const auto& [name, value] : input.kwargs.items()) {
    interpreter.define(name, jinja::value_of_json(value, name == "documents" ? data : Origin{}));
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

std::string read_text_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(ErrorKind::kCheckpoint, "the chat template ", path.string(), " cannot be read");
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (!error && size > kMaxConfigBytes)
    fail(ErrorKind::kCheckpoint, path.string(), " is larger than ", kMaxConfigBytes, " bytes");
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// The template in tokenizer_config.json: a string, or one of a list of {name, template}.
std::optional<std::string> template_of_config(const Json& config, bool has_tools, const std::string& path) {
  const auto entry = config.find("chat_template");
  if (entry == config.end() || entry->is_null()) return std::nullopt;
  if (entry->is_string()) return entry->get<std::string>();
  if (!entry->is_array())
    fail(ErrorKind::kCheckpoint, path, ": chat_template must be a string or a list of {name, template}");
  std::optional<std::string> chosen;
  for (const Json& named : *entry) {
    if (!named.is_object() || !named.contains("name") || !named.contains("template") || !named["name"].is_string() ||
        !named["template"].is_string()) {
      fail(ErrorKind::kCheckpoint, path, ": chat_template must be a string or a list of {name, template}");
    }
    const std::string name = named["name"].get<std::string>();
    if (name == "default" && !chosen) chosen = named["template"].get<std::string>();
    if (name == "tool_use" && has_tools) chosen = named["template"].get<std::string>();
  }
  if (!chosen) fail(ErrorKind::kCheckpoint, path, ": chat_template has no template named \"default\"");
  return chosen;
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
  if (!override_file.empty()) return parse(read_text_file(override_file), override_file.string());
  const auto own = directory / "chat_template.jinja";
  if (std::filesystem::exists(own)) return parse(read_text_file(own), own.string());
  const auto config_path = directory / "tokenizer_config.json";
  if (!std::filesystem::exists(config_path)) return std::nullopt;
  const Json config =
      io::read_ordered_json_file(config_path, ErrorKind::kCheckpoint, {.max_size_bytes = kMaxConfigBytes});
  if (!config.is_object()) fail(ErrorKind::kCheckpoint, config_path.string(), " is no JSON object");
  auto source = template_of_config(config, has_tools, config_path.string());
  if (!source) return std::nullopt;
  return parse(std::move(*source), config_path.string() + " (chat_template)");
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
  SpecialTokenMap special_tokens;
  const auto add = [&](const char* name, std::string token) {
    if (!token.empty()) special_tokens.emplace_back(name, std::move(token));
  };
  add("bos_token", tokenizer.bos_token());
  add("eos_token", tokenizer.eos_token());
  add("pad_token", tokenizer.pad_token());
  add("unk_token", tokenizer.unk_token());
  return render(input, special_tokens);
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
