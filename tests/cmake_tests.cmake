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
endif()
