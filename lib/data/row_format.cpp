#include "data/row_format.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/nearest_name.h"
#include "data/example.h"
#include "io/json.h"

namespace dsft::data {

using Json = nlohmann::ordered_json;

namespace {

template <typename... Parts>
[[noreturn]] void fail_field(std::string_view field, const Parts&... parts) {
  fail(ErrorKind::kData, "field \"", field, "\": ", parts...);
}

bool has(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && !found->is_null();
}

Json take(Json& object, const char* name) {
  return has(object, name) ? std::move(object[name]) : Json();
}

std::string take_text(Json& object, const char* name, const std::string& field) {
  if (!has(object, name)) fail_field(field, "is missing.");
  if (!object[name].is_string()) fail_field(field, "must be text, not ", object[name].type_name(), ".");
  return std::move(object[name].get_ref<std::string&>());
}

/// A JSON document that was written as a string.
Json parse_embedded(const std::string& text, std::string_view field) {
  try {
    return io::parse_ordered_json(text, concat("field \"", field, "\""), ErrorKind::kData);
  } catch (const Error& error) {
    fail(ErrorKind::kData, error.message());
  }
}

Json take_tools(Json& row) {
  Json tools = take(row, "tools");
  if (tools.is_string()) {
    const std::string text = tools.get<std::string>();
    tools = text.find_first_not_of(" \t\r\n") == std::string::npos ? Json() : parse_embedded(text, "tools");
  }
  if (tools.is_null()) return tools;
  if (!tools.is_array())
    fail_field("tools", "must be a list of JSON schemas (or such a list as a JSON string), not ", tools.type_name(),
               ".");
  for (size_t i = 0; i < tools.size(); ++i) {
    if (!tools[i].is_object())
      fail_field(concat("tools[", i, "]"), "must be a JSON schema, not ", tools[i].type_name(), ".");
  }
  return tools.empty() ? Json() : tools;
}

Json take_kwargs(Json& row) {
  Json kwargs = take(row, "chat_template_kwargs");
  if (kwargs.is_string()) kwargs = parse_embedded(kwargs.get<std::string>(), "chat_template_kwargs");
  if (kwargs.is_null()) return Json::object();
  if (!kwargs.is_object()) fail_field("chat_template_kwargs", "must be an object, not ", kwargs.type_name(), ".");
  return kwargs;
}

void check_content(const Json& content, const std::string& field) {
  if (content.is_string()) return;
  if (!content.is_array()) fail_field(field, "must be text or a list of parts, not ", content.type_name(), ".");
  for (const Json& part : content) {
    const bool is_text = part.is_object() && part.contains("type") && part["type"] == "text";
    if (!is_text)
      fail_field(
          field,
          "has a part that is no {\"type\": \"text\", \"text\": ...}; images and videos come with the vision recipe.");
  }
}

/// Whether a message has anything beside its content that a template may show: tool_calls, reasoning_content, ...
bool says_something_else(const Json& message) {
  static constexpr auto kNothing = std::to_array<std::string_view>({"role", "content", "name", "train", "weight"});
  for (const auto& [name, value] : message.items()) {
    const bool is_empty = value.is_null() || value.empty() || value == "";
    if (!is_empty && std::find(kNothing.begin(), kNothing.end(), name) == kNothing.end()) return true;
  }
  return false;
}

/// Of a message without content most templates make an empty one, the word None or a failure: OpenAI's roles have
/// theirs, but for an assistant that calls tools, thinks, ... instead. Other roles are the template's own.
void check_has_content(const Json& message, const std::string& field) {
  const char* state = message.contains("content") ? "is null" : "is missing";
  const Json& role = message["role"];
  if (role == "user" || role == "system" || role == "developer" || role == "tool")
    fail_field(field, state, ": a message of role ", role.get_ref<const std::string&>(),
               " needs text or a list of text parts; write \"\" for an empty one.");
  if (role == "assistant" && !says_something_else(message))
    fail_field(field, state,
               ", and nothing stands in its place: an assistant message needs content, or tool_calls, "
               "reasoning_content or the like; write \"\" for an empty one.");
}

/// "train": false, or OpenAI's "weight": 0, leaves a message out of what is learned.
void check_share(const Json& message, const std::string& at) {
  if (has(message, "train") && !message["train"].is_boolean()) fail_field(at + ".train", "must be true or false.");
  if (!has(message, "weight")) return;
  const Json& weight = message["weight"];
  if (!weight.is_number() || (weight != 0 && weight != 1))
    fail_field(at + ".weight", "must be 0 (the message is not learned) or 1, not ", weight.dump().substr(0, 60), ".");
  if (has(message, "train") && message["train"] != (weight == 1))
    fail_field(at + ".weight", "is ", weight.dump(), ", but .train is ", message["train"].dump(),
               ": write one of them.");
}

void check_messages(const Json& messages, const std::string& field) {
  if (!messages.is_array()) fail_field(field, "must be a list of messages, not ", messages.type_name(), ".");
  if (messages.empty()) fail_field(field, "is an empty list.");
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string at = concat(field, "[", i, "]");
    const Json& message = messages[i];
    if (!message.is_object()) fail_field(at, "must be an object with role and content, not ", message.type_name(), ".");
    if (!message.contains("role") || !message["role"].is_string())
      fail_field(at + ".role", "must be text (user, assistant, system, tool).");
    if (has(message, "content"))
      check_content(message["content"], at + ".content");
    else
      check_has_content(message, at + ".content");
    check_share(message, at);
  }
}

/// The role of a `from` name.
std::string role_of(const std::string& from, const std::string& field) {
  struct Name {
    std::string_view from, role;
  };
  static constexpr auto kNames = std::to_array<Name>({{"human", "user"},
                                                      {"user", "user"},
                                                      {"gpt", "assistant"},
                                                      {"assistant", "assistant"},
                                                      {"chatgpt", "assistant"},
                                                      {"bot", "assistant"},
                                                      {"model", "assistant"},
                                                      {"system", "system"},
                                                      {"developer", "developer"},
                                                      {"tool", "tool"},
                                                      {"observation", "tool"},
                                                      {"function_response", "tool"},
                                                      {"function_call", "function_call"}});
  std::vector<std::string> known;
  for (const Name& name : kNames) {
    if (name.from == from) return std::string(name.role);
    known.emplace_back(name.from);
  }
  fail_field(field, "\"", from, "\" is no known speaker; known are ", join_words(known), ".");
}

/// {"name", "arguments"} (or a list of them) as the tool_calls of a message.
Json tool_calls_of(const std::string& text, const std::string& field) {
  Json calls = parse_embedded(text, field);
  if (calls.is_object()) calls = Json::array({calls});
  if (!calls.is_array()) fail_field(field, "must be {\"name\", \"arguments\"} or a list of them.");
  Json tool_calls = Json::array();
  for (Json& call : calls) {
    if (!call.is_object() || !has(call, "name")) fail_field(field, "a function call must have a name.");
    tool_calls.push_back(Json{{"type", "function"}, {"function", std::move(call)}});
  }
  return tool_calls;
}

Json message_of_turn(Json& turn, const std::string& field) {
  if (!turn.is_object()) fail_field(field, "must be an object with from and value, not ", turn.type_name(), ".");
  if (has(turn, "role")) return std::move(turn);  // TRL takes role/content under this name too
  const std::string role = role_of(take_text(turn, "from", field + ".from"), field + ".from");
  std::string value = take_text(turn, "value", field + ".value");
  Json message{{"role", role}};
  if (role != "function_call") {
    message["content"] = std::move(value);
  } else {
    message = Json{{"role", "assistant"}, {"content", ""}, {"tool_calls", tool_calls_of(value, field + ".value")}};
  }
  for (const char* share : {"train", "weight"}) {
    if (has(turn, share)) message[share] = std::move(turn[share]);
  }
  return message;
}

Json system_message(Json& row) {
  Json messages = Json::array();
  if (has(row, "system")) {
    std::string system = take_text(row, "system", "system");
    if (!system.empty()) messages.push_back(Json{{"role", "system"}, {"content", std::move(system)}});
  }
  return messages;
}

Json messages_of_conversations(Json& row) {
  Json& turns = row["conversations"];
  if (!turns.is_array()) fail_field("conversations", "must be a list of {from, value}, not ", turns.type_name(), ".");
  Json said = Json::array();
  for (size_t i = 0; i < turns.size(); ++i) said.push_back(message_of_turn(turns[i], concat("conversations[", i, "]")));
  check_messages(said, "conversations");  // by the numbers of the row, before a system message stands in front
  Json messages = system_message(row);
  for (Json& message : said) messages.push_back(std::move(message));
  return messages;
}

Json messages_of_instruction(Json& row) {
  Json messages = system_message(row);
  Json history = take(row, "history");
  if (!history.is_null() && !history.is_array()) fail_field("history", "must be a list of [question, answer].");
  for (size_t i = 0; i < history.size(); ++i) {
    const Json& pair = history[i];
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string())
      fail_field(concat("history[", i, "]"), "must be [question, answer].");
    messages.push_back(Json{{"role", "user"}, {"content", pair[0]}});
    messages.push_back(Json{{"role", "assistant"}, {"content", pair[1]}});
  }
  std::string prompt = take_text(row, "instruction", "instruction");
  const std::string input = has(row, "input") ? take_text(row, "input", "input") : "";
  if (!input.empty()) prompt += "\n" + input;
  messages.push_back(Json{{"role", "user"}, {"content", std::move(prompt)}});
  messages.push_back(Json{{"role", "assistant"}, {"content", take_text(row, "output", "output")}});
  return messages;
}

/// Of messages that have been checked.
Conversation conversation_of(Json messages, Json& row) {
  Conversation conversation;
  conversation.messages = std::move(messages);
  conversation.tools = take_tools(row);
  conversation.kwargs = take_kwargs(row);
  return conversation;
}

RowContent read_prompt_completion(Json& row) {
  if (!has(row, "completion")) fail_field("completion", "is missing: a row with a prompt needs one to learn from.");
  Json prompt = take(row, "prompt");
  Json completion = take(row, "completion");
  if (prompt.is_string() != completion.is_string())
    fail_field("completion", "prompt and completion must both be text or both be lists of messages.");
  if (prompt.is_string()) return PlainText{prompt.get<std::string>(), completion.get<std::string>(), true};
  check_messages(prompt, "prompt");
  check_messages(completion, "completion");
  const size_t num_prompt_messages = prompt.size();
  for (Json& message : completion) prompt.push_back(std::move(message));
  Conversation conversation = conversation_of(std::move(prompt), row);
  conversation.num_prompt_messages = num_prompt_messages;
  conversation.is_completion = true;
  return conversation;
}

/// What a list of a token row holds: ids, or ids and kIgnored.
enum class Entry { kToken, kLabel };

bool is_entry(const Json& value, Entry kind) {
  if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<uint64_t>() > INT32_MAX)) return false;
  const int64_t number = value.get<int64_t>();
  return (number >= 0 && number <= INT32_MAX) || (kind == Entry::kLabel && number == kIgnored);
}

std::vector<int32_t> read_entries(const Json& list, const char* field, Entry kind) {
  if (!list.is_array()) fail_field(field, "must be a list of integers, not ", list.type_name(), ".");
  std::vector<int32_t> entries;
  entries.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    if (!is_entry(list[i], kind))
      fail_field(concat(field, "[", i, "]"), list[i].is_number() ? list[i].dump() : list[i].type_name(),
                 " is no token id", kind == Entry::kLabel ? " and not -100." : ".");
    entries.push_back(list[i].get<int32_t>());
  }
  return entries;
}

TokenRow read_token_row(const Json& row) {
  TokenRow tokens;
  tokens.ids = read_entries(row["token_ids"], "token_ids", Entry::kToken);
  tokens.labels = has(row, "labels") ? read_entries(row["labels"], "labels", Entry::kLabel) : tokens.ids;
  if (tokens.labels.size() != tokens.ids.size())
    fail_field("labels", "has ", tokens.labels.size(), " entries, but token_ids has ", tokens.ids.size(), ".");
  for (size_t i = 0; i < tokens.ids.size(); ++i) {
    if (tokens.labels[i] != kIgnored && tokens.labels[i] != tokens.ids[i])
      fail_field(concat("labels[", i, "]"), "is ", tokens.labels[i], ", but token_ids[", i, "] is ", tokens.ids[i],
                 "; a label is the token at its own place, or -100.");
  }
  return tokens;
}

}  // namespace

bool is_left_out(const Json& message) {
  return (has(message, "train") && message["train"] == false) || (has(message, "weight") && message["weight"] == 0);
}

RowContent read_row(Json row) {
  if (has(row, "images") || has(row, "image") || has(row, "videos"))
    fail_field(has(row, "images")  ? "images"
               : has(row, "image") ? "image"
                                   : "videos",
               "images and videos come with the vision recipe.");
  if (has(row, "token_ids")) return read_token_row(row);
  if (has(row, "messages")) {
    check_messages(row["messages"], "messages");
    return conversation_of(std::move(row["messages"]), row);
  }
  if (has(row, "prompt")) return read_prompt_completion(row);
  if (has(row, "conversations")) return conversation_of(messages_of_conversations(row), row);
  if (has(row, "instruction")) return conversation_of(messages_of_instruction(row), row);
  if (has(row, "text")) return PlainText{"", take_text(row, "text", "text"), false};
  std::vector<std::string> found;
  for (const auto& [name, value] : row.items()) found.push_back("\"" + name.substr(0, 60) + "\"");
  fail(ErrorKind::kData, "the row has ", found.empty() ? "no field" : "the fields " + join_words(found),
       "; a row needs messages, prompt and completion, text, conversations, instruction and output, or token_ids",
       has(row, "question")
           ? ": rename \"question\" to \"prompt\", or, where these are GSM8K's rows, make the file with "
             "scripts/make_gsm8k.py."
           : ".");
}

std::optional<size_t> find_answer(const Conversation& conversation) {
  for (size_t i = conversation.messages.size(); i > conversation.num_prompt_messages; --i)
    if (conversation.messages[i - 1]["role"] == "assistant") return i - 1;
  return std::nullopt;
}

bool has_answer(const RowContent& content) {
  if (const auto* text = std::get_if<PlainText>(&content)) return text->is_completion;
  const auto* conversation = std::get_if<Conversation>(&content);
  return conversation != nullptr && find_answer(*conversation).has_value();
}

}  // namespace dsft::data
