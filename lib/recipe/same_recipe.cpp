#include "recipe/same_recipe.h"

#include <sstream>

#include "base/error.h"
#include "comm/small_collectives.h"

namespace dsft::recipe {

void require_same_recipe(const recipe_config::RecipeConfig& config, comm::Communicator& communicator) {
  recipe_config::RecipeConfig compared = config;
  compared.data.num_workers.reset();
  const std::string own = recipe_config::to_yaml(compared);
  std::istringstream own_lines(own), first_lines(comm::broadcast_bytes(communicator, own));
  std::string own_line, first_line;
  while (true) {
    const bool has_own = static_cast<bool>(std::getline(own_lines, own_line));
    const bool has_first = static_cast<bool>(std::getline(first_lines, first_line));
    if (!has_own && !has_first) break;
    if (has_own && has_first && own_line == first_line) continue;
    fail(ErrorKind::kUsage, "rank ", communicator.rank(), " reads another recipe than rank 0: `",
         has_own ? own_line : "", "` where rank 0 has `", has_first ? first_line : "",
         "`. Every host needs the same recipe, the same files that it names and the same command line.");
  }
  communicator.barrier();
}

}  // namespace dsft::recipe
