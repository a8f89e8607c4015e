#include "data/example_builder.h"

#include <algorithm>

#include "base/error.h"
#include "data/content_parts.h"
#include "io/json.h"

namespace dsft::data {

using text::Json;

namespace {

constexpr size_t kMaxGenerationPrompts = 64;

void add_stop_id(std::vector<int32_t>& ids, const Json& id) {
  if (id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<int64_t>() <= INT32_MAX)
    ids.push_back(id.get<int32_t>());
}

std::vector<int32_t> read_stop_ids(const std::filesystem::path& directory, const text::Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  if (tokenizer.eos_id()) ids.push_back(*tokenizer.eos_id());
  const std::filesystem::path file = directory / "generation_config.json";
  if (!std::filesystem::exists(file)) return ids;
  const Json config = io::read_ordered_json_file(file);
  if (!config.is_object() || !config.contains("eos_token_id")) return ids;
  const Json& eos = config["eos_token_id"];
  if (!eos.is_array()) {
    add_stop_id(ids, eos);
  } else {
    for (const Json& id : eos) add_stop_id(ids, id);
  }
  return ids;
}

bool is_assistant(const Json& message) {
  return message["role"] == "assistant";
}

bool has_tool_calls(const Conversation& conversation) {
  return std::any_of(conversation.messages.begin(), conversation.messages.end(), [](const Json& message) {
    return message.contains("tool_calls") && message["tool_calls"].is_array() && !message["tool_calls"].empty();
  });
}

/// In the order of the text: a template may write messages in another order than the row's.
std::vector<text::ByteRange> merged(std::vector<text::ByteRange> ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  std::vector<text::ByteRange> result;
  for (const text::ByteRange& range : ranges) {
    if (!result.empty() && range.begin <= result.back().end) {
      result.back().end = std::max(result.back().end, range.end);
    } else {
      result.push_back(range);
    }
  }
  return result;
}

/// What of `whole` lies outside of `holes`.
std::vector<text::ByteRange> without(text::ByteRange whole, std::vector<text::ByteRange> holes) {
  std::vector<text::ByteRange> result;
  for (const text::ByteRange& hole : merged(std::move(holes))) {
    if (hole.begin > whole.begin) result.push_back({whole.begin, std::min(hole.begin, whole.end)});
    whole.begin = std::max(whole.begin, hole.end);
  }
  if (whole.begin < whole.end) result.push_back(whole);
  return result;
}

/// Labels the tokens that begin inside one of `ranges` (sorted).
Example label_tokens(const text::Encoding& encoding, const std::vector<text::ByteRange>& ranges) {
  Example example;
  example.ids = encoding.ids;
  example.labels.assign(example.ids.size(), kIgnored);
  size_t range = 0;
  for (size_t i = 0; i < example.ids.size(); ++i) {
    while (range < ranges.size() && ranges[range].end <= encoding.begins[i]) ++range;
    if (range < ranges.size() && encoding.begins[i] >= ranges[range].begin) example.labels[i] = example.ids[i];
  }
  return example;
}

Example without_first_label(Example example) {
  if (!example.labels.empty()) example.labels[0] = kIgnored;
  return example;
}

/// Drops a BOS or EOS that the post-processor added beside one that the text wrote.
void drop_doubled_special(text::Encoding& encoding, const text::Tokenizer& tokenizer) {
  const auto drop = [&encoding](size_t i) {
    encoding.ids.erase(encoding.ids.begin() + static_cast<ptrdiff_t>(i));
    encoding.begins.erase(encoding.begins.begin() + static_cast<ptrdiff_t>(i));
    encoding.ends.erase(encoding.ends.begin() + static_cast<ptrdiff_t>(i));
  };
  const auto is_added = [&encoding](size_t i) { return encoding.begins[i] == encoding.ends[i]; };
  const auto is_doubled = [&encoding](size_t i, std::optional<int32_t> id) {
    return id && encoding.ids[i] == *id && encoding.ids[i + 1] == *id;
  };
  if (encoding.ids.size() >= 2 && is_doubled(0, tokenizer.bos_id()) && is_added(0)) drop(0);
  const size_t n = encoding.ids.size();
  if (n >= 2 && is_doubled(n - 2, tokenizer.eos_id()) && is_added(n - 1)) drop(n - 1);
}

}  // namespace

TextAssets TextAssets::load(const spec::TextFolders& folders, const std::filesystem::path& template_file) {
  text::Tokenizer tokenizer = text::Tokenizer::load(folders.text);
  std::vector<int32_t> stop_ids = read_stop_ids(folders.model, tokenizer);
  return TextAssets{std::move(tokenizer), text::ChatTemplate::load(folders.text, template_file, /*has_tools=*/false),
                    text::ChatTemplate::load(folders.text, template_file, /*has_tools=*/true), std::move(stop_ids)};
}

ExampleBuilder::ExampleBuilder(const TextAssets& assets, LossOn loss_on, Json template_kwargs)
    : assets_(assets), loss_on_(loss_on), template_kwargs_(std::move(template_kwargs)) {}

Example ExampleBuilder::build(const Json& row) {
  const RowContent content = read_row(row);
  if (const auto* conversation = std::get_if<Conversation>(&content)) return build_conversation(*conversation);
  if (const auto* text = std::get_if<PlainText>(&content)) return build_text(*text);
  const auto& tokens = std::get<TokenRow>(content);
  for (int32_t id : tokens.ids) {
    if (id >= assets_.tokenizer.num_ids())
      fail(ErrorKind::kData, "field \"token_ids\": ", id, " is no token of this tokenizer, whose ids end at ",
           assets_.tokenizer.num_ids() - 1, ".");
  }
  return without_first_label({tokens.ids, tokens.labels});
}

const text::ChatTemplate& ExampleBuilder::template_for(const Conversation& conversation) const {
  const bool has_tools = !conversation.tools.is_null();
  const auto& chat_template = has_tools ? assets_.tool_template : assets_.chat_template;
  if (!chat_template)
    fail(ErrorKind::kCheckpoint,
         "the row is a conversation, but the checkpoint has no chat template. Name a template file in "
         "data.chat_template.");
  if (has_tools && !chat_template->reads_variable("tools"))
    fail(ErrorKind::kData,
         "field \"tools\": the chat template never reads tools, so the model would not see them. Name a template that "
         "does in data.chat_template, or leave the field out.");
  if (has_tool_calls(conversation) && !chat_template->reads_attribute("tool_calls"))
    fail(ErrorKind::kData,
         "field \"messages\": there are tool_calls, but the chat template never reads them, so the calls would be "
         "lost. Name a template that does in data.chat_template, or a model or adapter whose folder has one.");
  return *chat_template;
}

const GenerationPrompt& ExampleBuilder::generation_prompt(const text::ChatTemplate& chat_template,
                                                          const text::ChatInput& input) {
  // rows of one set have few kinds of kwargs; where each has its own, remembering them all would not help
  if (generation_prompts_.size() >= kMaxGenerationPrompts) generation_prompts_.clear();
  const auto [found, is_new] = generation_prompts_.try_emplace({&chat_template, input.row_kwargs.dump()});
  if (is_new) found->second = find_generation_prompt(chat_template, assets_.tokenizer, input);
  return found->second;
}

Example ExampleBuilder::build_conversation(const Conversation& conversation) {
  const text::ChatTemplate& chat_template = template_for(conversation);
  text::ChatInput input;
  input.messages = conversation.messages;
  input.tools = conversation.tools;
  input.kwargs = template_kwargs_;
  input.row_kwargs = conversation.kwargs;
  const text::RenderedChat chat = chat_template.render(input, assets_.tokenizer);
  refuse_printed_parts(conversation, chat);
  const text::Encoding encoding =
      assets_.tokenizer.encode_with_offsets(chat.text, /*add_special_tokens=*/false, plain_ranges(chat));
  const TokenisedChat tokenised{chat, encoding, generation_prompt(chat_template, input), assets_.tokenizer,
                                assets_.stop_ids};
  return without_first_label(label_tokens(encoding, merged(supervised_ranges(conversation, tokenised))));
}

/// The turn of a message of the model, checked to end in a stop token. nullopt where the template wrote nothing of it
/// or marks it as not generated.
std::optional<AssistantTurn> ExampleBuilder::closed_turn(const Conversation& conversation,
                                                         const TokenisedChat& tokenised, size_t index) const {
  auto turn = find_assistant_turn(tokenised, static_cast<int32_t>(index));
  if (!turn || (tokenised.chat.has_generation_tag && turn->runs.empty())) return std::nullopt;
  if (!turn->stop_end)
    fail(ErrorKind::kData, "field \"messages\": the chat template writes no stop token after message ", index, " of ",
         conversation.messages.size(), " (\"", tokenised.tokenizer.eos_token(),
         "\" or another special token), so the model would never learn to stop. Name a template that ends each turn in "
         "data.chat_template.");
  return turn;
}

std::vector<text::ByteRange> ExampleBuilder::left_out_turns(const Conversation& conversation,
                                                            const TokenisedChat& tokenised) const {
  std::vector<text::ByteRange> turns;
  for (size_t i = 0; i < conversation.messages.size(); ++i) {
    if (!is_left_out(conversation.messages[i])) continue;
    if (const auto turn = find_assistant_turn(tokenised, static_cast<int32_t>(i)))
      turns.push_back({turn->begin, turn->end});
  }
  return turns;
}

std::vector<text::ByteRange> ExampleBuilder::supervised_ranges(const Conversation& conversation,
                                                               const TokenisedChat& tokenised) const {
  const Json& messages = conversation.messages;
  const size_t text_end = tokenised.chat.text.size();
  if (loss_on_ == LossOn::kAll) return without({0, text_end}, left_out_turns(conversation, tokenised));
  if (conversation.is_completion && loss_on_ != LossOn::kAssistant) {
    const auto turn = find_assistant_turn(tokenised, static_cast<int32_t>(conversation.num_prompt_messages));
    if (is_assistant(messages.back())) closed_turn(conversation, tokenised, messages.size() - 1);
    if (!turn) return {};
    return without({turn->begin, text_end}, left_out_turns(conversation, tokenised));
  }
  size_t first = conversation.num_prompt_messages;
  if (loss_on_ == LossOn::kCompletion) {  // of plain messages the completion is the last answer
    while (std::any_of(messages.begin() + static_cast<ptrdiff_t>(first) + 1, messages.end(), is_assistant)) ++first;
  }
  std::vector<text::ByteRange> ranges;
  for (size_t i = first; i < messages.size(); ++i) {
    if (!is_assistant(messages[i]) || is_left_out(messages[i])) continue;
    const auto turn = closed_turn(conversation, tokenised, i);
    if (turn) ranges.insert(ranges.end(), turn->runs.begin(), turn->runs.end());
  }
  return ranges;
}

Example ExampleBuilder::build_text(const PlainText& row) {
  if (loss_on_ == LossOn::kAssistant)
    fail(ErrorKind::kData, "data.loss_on: assistant needs rows of messages, and this one is plain text; write auto, ",
         row.is_completion ? "completion" : "all", " or leave it out.");
  if (loss_on_ == LossOn::kCompletion && !row.is_completion)
    fail(ErrorKind::kData,
         "data.loss_on: completion needs rows with a completion, and this one has only \"text\"; write auto or all.");
  std::string text = row.prompt + row.completion;
  const std::string eos = assets_.tokenizer.eos_token();
  if (eos.empty()) ++num_without_eos_;
  if (!row.completion.ends_with(eos)) text += eos;
  text::Encoding encoding = assets_.tokenizer.encode_with_offsets(text, /*add_special_tokens=*/true);
  drop_doubled_special(encoding, assets_.tokenizer);
  const bool is_prompt_masked = row.is_completion && loss_on_ != LossOn::kAll;
  const size_t end = text.size() + 1;  // an EOS of the post-processor begins at the text's end
  return without_first_label(label_tokens(encoding, {{is_prompt_masked ? row.prompt.size() : 0, end}}));
}

}  // namespace dsft::data
