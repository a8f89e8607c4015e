#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "data/content_parts.h"
#include "data/row_format.h"
#include "dsft/command.h"
#include "io/json.h"
#include "spec/model_spec.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace dsft::apps {
namespace {

struct TokenizeOptions {
  std::string model;
  std::string text;
  std::string messages_file;
  std::string tools_file;
  bool has_text = false;
  bool add_generation_prompt = false;
  bool no_special_tokens = false;
  bool is_json = false;
};

struct TokenizedText {
  std::string text;
  text::Encoding encoding;
};

text::Json read_tools(const std::string& file) {
  text::Json json = io::read_ordered_json_file(file, ErrorKind::kData);
  if (json.is_object() && json.contains("tools")) json = text::Json(json["tools"]);
  if (!json.is_array()) fail(ErrorKind::kData, file, ": must hold a JSON list, or an object with the list \"tools\"");
  return json;
}

/// The conversation of --messages with the tools of its own file or of --tools, checked as a row of data is.
data::Conversation read_conversation(const TokenizeOptions& options) {
  text::Json row = io::read_ordered_json_file(options.messages_file, ErrorKind::kData);
  if (row.is_array()) row = text::Json{{"messages", std::move(row)}};
  if (!row.is_object() || !row.contains("messages"))
    fail(ErrorKind::kData, options.messages_file,
         " must hold a list of messages, or an object {\"messages\": [...], \"tools\": [...]}.");
  if (!options.tools_file.empty() && row.contains("tools"))
    fail(ErrorKind::kUsage, options.messages_file, " has tools of its own, and --tools names ", options.tools_file,
         ": give them in one place");
  if (!options.tools_file.empty()) row["tools"] = read_tools(options.tools_file);
  try {
    return std::get<data::Conversation>(data::read_row(std::move(row)));
  } catch (Error& error) {
    throw error.add_context("in " + options.messages_file);
  }
}

TokenizedText tokenize_messages(const TokenizeOptions& options, const std::filesystem::path& model,
                                const text::Tokenizer& tokenizer) {
  const data::Conversation conversation = read_conversation(options);
  const bool has_tools = !conversation.tools.is_null();
  const auto chat_template = text::ChatTemplate::load(model, {}, has_tools);
  if (!chat_template) fail(ErrorKind::kCheckpoint, options.model, " has no chat template; use --text");
  if (has_tools && !chat_template->reads_variable("tools"))
    fail(ErrorKind::kData, "the chat template of ", options.model,
         " never reads tools, so the model would not see them.");
  text::ChatInput input;
  input.messages = conversation.messages;
  input.tools = conversation.tools;
  input.row_kwargs = conversation.kwargs;
  input.add_generation_prompt = options.add_generation_prompt;
  const text::RenderedChat chat = chat_template->render(input, tokenizer);
  data::refuse_printed_parts(conversation, chat);
  std::vector<text::ByteRange> user_text;
  for (const auto& span : chat.spans) {
    if (span.is_user_text) user_text.push_back({span.begin, span.end});
  }
  // the template has written the special tokens itself: adding them again would double the first one
  return {chat.text, tokenizer.encode_with_offsets(chat.text, false, user_text)};
}

void print_table(const text::Tokenizer& tokenizer, const TokenizedText& result) {
  for (const int32_t id : result.encoding.ids) {
    std::cout << id << '\t' << tokenizer.id_to_token(id) << (tokenizer.is_special(id) ? "\tspecial" : "") << '\n';
  }
  std::cout << result.encoding.ids.size() << " tokens, " << result.text.size() << " bytes\n";
}

int run_tokenize(const TokenizeOptions& options) {
  if (options.has_text == !options.messages_file.empty()) {
    fail(ErrorKind::kUsage, "`dsft tokenize` needs one of --text and --messages");
  }
  if (options.has_text && (options.add_generation_prompt || !options.tools_file.empty())) {
    fail(ErrorKind::kUsage, "--tools and --add-generation-prompt belong to --messages: a --text is taken as it is");
  }
  const std::filesystem::path model = spec::find_model(options.model, /*revision=*/"");
  const auto tokenizer = text::Tokenizer::load(model);
  const TokenizedText result =
      options.has_text
          ? TokenizedText{options.text, tokenizer.encode_with_offsets(options.text, !options.no_special_tokens)}
          : tokenize_messages(options, model, tokenizer);
  if (options.is_json) {
    std::cout << nlohmann::ordered_json{{"text", result.text}, {"token_ids", result.encoding.ids}}.dump() << '\n';
  } else {
    print_table(tokenizer, result);
  }
  return 0;
}

}  // namespace

void add_tokenize_command(CLI::App& app, CommandResult& result) {
  auto options = std::make_shared<TokenizeOptions>();
  CLI::App* command = app.add_subcommand("tokenize", "Show the ids and pieces of a text or a conversation");
  command->add_option("--model", options->model, "Model directory with tokenizer.json, or a hub id in the local cache")
      ->required();
  CLI::Option* text = command->add_option("--text", options->text, "Text to encode");
  command->add_option("--messages", options->messages_file,
                      "JSON file with a conversation, rendered by the chat template: a list of messages, or {messages, "
                      "tools}");
  command->add_option("--tools", options->tools_file, "JSON file with a list of tools, or {tools}");
  command->add_flag("--add-generation-prompt", options->add_generation_prompt,
                    "End with the start of an assistant's turn");
  command->add_flag("--no-special-tokens", options->no_special_tokens,
                    "Leave out the special tokens that the tokenizer puts around a --text");
  command->add_flag("--json", options->is_json, "Print one JSON document {text, token_ids}");
  command->footer("Example:\n  dsft tokenize --model models/SmolLM2-135M-Instruct --text 'Hello world'");
  command->callback([options, text, &result] {
    options->has_text = text->count() > 0;
    result.exit_code = run_tokenize(*options);
  });
}

}  // namespace dsft::apps
