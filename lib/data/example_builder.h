#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/assistant_turns.h"
#include "data/data_config.h"
#include "data/example.h"
#include "data/row_format.h"
#include "spec/text_folders.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace dsft::data {

/// What a checkpoint says about text: its tokenizer, its chat templates and the tokens that end an answer. Immutable,
/// shared by threads.
struct TextAssets {
  text::Tokenizer tokenizer;
  std::optional<text::ChatTemplate> chat_template;  ///< for rows without tools
  std::optional<text::ChatTemplate> tool_template;  ///< for rows with tools; mostly the same source
  std::vector<int32_t> stop_ids;                    ///< eos_token and the eos_token_id of generation_config.json

  /// `template_file` (data.chat_template), where not empty, replaces the template of the folders.
  static TextAssets load(const spec::TextFolders& folders, const std::filesystem::path& template_file);
};

/// How rows become ids and labels; a pure function of the row. One builder serves one thread.
class ExampleBuilder {
 public:
  /// `template_kwargs`: data.chat_template_kwargs, which a row's own kwargs override. Borrows `assets`.
  ExampleBuilder(const TextAssets& assets, LossOn loss_on, text::Json template_kwargs);

  /// Ids and labels of a whole row, before any cut; labels[0] is kIgnored. Throws kData for a row that cannot be
  /// learned from: no chat template, tools or tool_calls that the template never reads, parts that it prints as a list,
  /// an assistant turn without a stop token, a loss_on that does not fit the row's format.
  Example build(const nlohmann::ordered_json& row);

  /// Rows of plain text so far that got no token for their end, because the tokenizer names none.
  int64_t num_without_eos() const { return num_without_eos_; }

 private:
  Example build_conversation(const Conversation& conversation);
  Example build_text(const PlainText& row);
  const text::ChatTemplate& template_for(const Conversation& conversation) const;
  const GenerationPrompt& generation_prompt(const text::ChatTemplate& chat_template, const text::ChatInput& input);
  std::vector<text::ByteRange> supervised_ranges(const Conversation& conversation,
                                                 const TokenisedChat& tokenised) const;
  /// The turns of messages that is_left_out names.
  std::vector<text::ByteRange> left_out_turns(const Conversation& conversation, const TokenisedChat& tokenised) const;
  std::optional<AssistantTurn> closed_turn(const Conversation& conversation, const TokenisedChat& tokenised,
                                           size_t index) const;

  const TextAssets& assets_;
  LossOn loss_on_;
  text::Json template_kwargs_;
  std::map<std::pair<const text::ChatTemplate*, std::string>, GenerationPrompt> generation_prompts_;
  int64_t num_without_eos_ = 0;
};

}  // namespace dsft::data
