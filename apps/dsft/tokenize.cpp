#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "dsft/command.h"
#include "io/json.h"
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

/// A JSON file that holds a list, or an object with the list under `key`.
text::Json read_list(const std::string& file, const char* key) {
  text::Json json = io::read_ordered_json_file(file, ErrorKind::kData);
  if (json.is_object() && json.contains(key)) json = text::Json(json[key]);
  if (!json.is_array())
    fail(ErrorKind::kData, file, ": must hold a JSON list, or an object with the list \"", key, "\"");
  return json;
}

TokenizedText tokenize_messages(const TokenizeOptions& options, const text::Tokenizer& tokenizer) {
  text::ChatInput input;
  input.messages = read_list(options.messages_file, "messages");
  if (!options.tools_file.empty()) input.tools = read_list(options.tools_file, "tools");
  input.add_generation_prompt = options.add_generation_prompt;
  const auto chat_template = text::ChatTemplate::load(options.model, {}, !options.tools_file.empty());
  if (!chat_template) fail(ErrorKind::kCheckpoint, options.model, " has no chat template; use --text");
  const text::RenderedChat chat = chat_template->render(input, tokenizer);
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
  const auto tokenizer = text::Tokenizer::load(options.model);
  const TokenizedText result =
      options.has_text
          ? TokenizedText{options.text, tokenizer.encode_with_offsets(options.text, !options.no_special_tokens)}
          : tokenize_messages(options, tokenizer);
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
  command->add_option("--model", options->model, "Model directory with tokenizer.json")->required();
  CLI::Option* text = command->add_option("--text", options->text, "Text to encode");
  command->add_option("--messages", options->messages_file,
                      "JSON file with a list of messages, rendered by the chat template");
  command->add_option("--tools", options->tools_file, "JSON file with a list of tools for the template");
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
