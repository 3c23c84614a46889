# page.html becomes a string literal in one generated source of tsubu_serve.
set(page ${PROJECT_SOURCE_DIR}/src/serve/page.html)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${page})
file(READ ${page} page_text)
file(WRITE ${PROJECT_BINARY_DIR}/generated/embedded_page.cc.new
     "// Generated from src/serve/page.html.\n#include \"serve/page.h\"\nnamespace tsubu::serve {\n"
     "const std::string_view kPage = R\"page(${page_text})page\";\n}  // namespace tsubu::serve\n")
file(COPY_FILE ${PROJECT_BINARY_DIR}/generated/embedded_page.cc.new ${PROJECT_BINARY_DIR}/generated/embedded_page.cc ONLY_IF_DIFFERENT)
