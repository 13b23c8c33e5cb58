# Tests that run no compiled code of ours: of the tree itself and of the launcher. Label "scripts": sanitizer runs leave them out.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
function(strait_script_test name script)
  add_test(NAME ${name} COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_SOURCE_DIR}/${script} ${ARGN})
  set_tests_properties(${name} PROPERTIES LABELS scripts TIMEOUT 300)
endfunction()
strait_script_test(Tree.IncludesFollowTheRules include_rules.py ${PROJECT_SOURCE_DIR})
strait_script_test(Tree.DocumentationLinksLeadSomewhere markdown_links.py ${PROJECT_SOURCE_DIR})
strait_script_test(Launcher.KeepsItsPromises launcher/launcher_test.py)
add_test(NAME Tree.NoAtomicsInCudaKernels
  COMMAND ${CMAKE_COMMAND} -DDIRECTORY=${PROJECT_SOURCE_DIR}/kernels/cuda -P ${CMAKE_CURRENT_SOURCE_DIR}/gpu/no_float_atomics.cmake)
set_tests_properties(Tree.NoAtomicsInCudaKernels PROPERTIES LABELS scripts)
if(STRAIT_ENGINE)
  add_test(NAME Commands.KeepTheirPromises
    COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_SOURCE_DIR}/cli/command_test.py $<TARGET_FILE:strait>)
  set_tests_properties(Commands.KeepTheirPromises PROPERTIES TIMEOUT 600)
  add_test(NAME Commands.SurviveKills
    COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_SOURCE_DIR}/cli/interruption_test.py $<TARGET_FILE:strait>)
  set_tests_properties(Commands.SurviveKills PROPERTIES TIMEOUT 900 LABELS scripts)
  add_test(NAME Sweeps.KeepTheirPromises
    COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_SOURCE_DIR}/cli/sweep_test.py $<TARGET_FILE:strait>)
  set_tests_properties(Sweeps.KeepTheirPromises PROPERTIES TIMEOUT 600)
  add_test(NAME Sweeps.RunOnSlurm
    COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_SOURCE_DIR}/slurm/slurm_test.py $<TARGET_FILE:strait>)
  set_tests_properties(Sweeps.RunOnSlurm PROPERTIES TIMEOUT 600 SKIP_RETURN_CODE 77 LABELS scripts)
  add_test(NAME Commands.CheckExportAndPlan
    COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_SOURCE_DIR}/cli/check_test.py $<TARGET_FILE:strait>)
  set_tests_properties(Commands.CheckExportAndPlan PROPERTIES TIMEOUT 600)
  add_test(NAME Papers.ComeOutAsTheirReadmeSays
    COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_SOURCE_DIR}/cli/papers_test.py $<TARGET_FILE:strait>)
  set_tests_properties(Papers.ComeOutAsTheirReadmeSays PROPERTIES TIMEOUT 300)
  # docs/adding_a_codec.md, followed to the letter: its files, and its lines in a copy of the registry that is linked before the library's.
  set(added ${CMAKE_CURRENT_BINARY_DIR}/adding_a_codec)
  set(added_sources ${added}/engine/codec/average.cpp ${added}/engine/codec/method.cpp ${added}/tests/engine/average_test.cpp)
  add_custom_command(OUTPUT ${added_sources}
    COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_SOURCE_DIR}/documentation/adding_a_codec.py ${PROJECT_SOURCE_DIR} ${added}
    DEPENDS documentation/adding_a_codec.py ${PROJECT_SOURCE_DIR}/docs/adding_a_codec.md ${PROJECT_SOURCE_DIR}/engine/codec/method.cpp)
  add_executable(test_adding_a_codec ${added_sources})
  target_include_directories(test_adding_a_codec BEFORE PRIVATE ${added})
  target_link_libraries(test_adding_a_codec PRIVATE strait_options strait::engine fmt::fmt GTest::gtest GTest::gtest_main)
  add_test(NAME Documentation.AddingACodec COMMAND test_adding_a_codec --gtest_brief=1)
  set_tests_properties(Documentation.AddingACodec PROPERTIES LABELS scripts TIMEOUT 300)
endif()
