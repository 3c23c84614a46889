// The stock recipes' JSON texts, embedded at configure time (embed.cmake); ends with a null entry.
#pragma once

namespace tsubu {

struct EmbeddedRecipe {
  const char* file_name;
  const char* text;
};
extern const EmbeddedRecipe kEmbeddedRecipes[];

}  // namespace tsubu
