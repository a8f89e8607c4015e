// tokenizer_config.json and special_tokens_map.json: the tokens' roles and the chat template that is kept there.
#include "fuzz/fuzz.h"
#include "support/temp_dir.h"
#include "text/chat_template.h"
#include "text/tokenizer_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const dsft::test::TempDir folder;
  const std::string input(dsft::fuzz::text_of(data, size));
  folder.write("tokenizer_config.json", input);
  folder.write("special_tokens_map.json", input);
  dsft::fuzz::allow_refusal([&] { dsft::text::read_token_roles(folder.path()); });
  dsft::fuzz::allow_refusal([&] { dsft::text::ChatTemplate::load(folder.path(), "", false); });
  dsft::fuzz::allow_refusal([&] { dsft::text::ChatTemplate::load(folder.path(), "", true); });
  return 0;
}
