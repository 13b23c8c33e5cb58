# generated/strait_version.h: the version and the git commit that a run writes into its summary and record.
execute_process(COMMAND git rev-parse --short=12 HEAD WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
  OUTPUT_VARIABLE STRAIT_GIT_COMMIT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT STRAIT_GIT_COMMIT)
  set(STRAIT_GIT_COMMIT "unknown")
endif()
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/generated/strait_version.h CONTENT
"#pragma once
#define STRAIT_VERSION \"${PROJECT_VERSION}\"
#define STRAIT_GIT_COMMIT \"${STRAIT_GIT_COMMIT}\"
")
