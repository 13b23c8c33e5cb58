"""A small stand-in for the source tree: the real launcher and presets, a CMake project that builds in a moment, and
package tools that only write down how they were called. What it cannot show, a first start on a bare Debian, the
continuous integration does."""

import os
import shutil
import subprocess
import textwrap
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]

CMAKE_LISTS = """
cmake_minimum_required(VERSION 3.25)
project(strait LANGUAGES NONE)
option(STRAIT_TESTS "" ON)
foreach(name strait strait-sim)
  set(output ${PROJECT_BINARY_DIR}/sim/cli/${name})
  add_custom_command(OUTPUT ${output} DEPENDS ${PROJECT_SOURCE_DIR}/kernels/program.sh
    COMMAND sh ${PROJECT_SOURCE_DIR}/cmake/compile.sh ${PROJECT_SOURCE_DIR}/kernels/program.sh ${output} VERBATIM)
  add_custom_target(${name} ALL DEPENDS ${output})
endforeach()
if(STRAIT_TESTS)
  enable_testing()
  add_test(NAME passes COMMAND true)
  add_test(NAME may_fail COMMAND test ! -e ${PROJECT_SOURCE_DIR}/fail)
endif()
"""

# "Compiles" a script; a line `syntax error` is what stops it, a line `slow` what makes it take a second.
COMPILE = """
if grep -n 'syntax error' "$1"; then exit 1; fi
if grep -q slow "$1"; then sleep 1; fi
mkdir -p "$(dirname "$2")" && cp "$1" "$2" && chmod +x "$2"
"""

# The program writes its arguments down, one call a line; its exit codes are set by the test.
PROGRAM = """#!/bin/bash
printf '%s|' "$@" >>"$FAKE_LOG/program"; echo >>"$FAKE_LOG/program"
case "$1 $2" in
  'read input') cat ;;
esac
echo "program ran in $PWD"
exit "${FAKE_STATUS:-0}"
"""

TOOLS = {
    "dpkg-query": """
        # Everything is installed but what $FAKE_LOG/missing lists.
        echo "$@" >>"$FAKE_LOG/dpkg-query"
        for name in "${@:4}"; do grep -qx "$name" "$FAKE_LOG/missing" 2>/dev/null || echo "ii  $name"; done
        """,
    "apt-cache": """
        echo "$@" >>"$FAKE_LOG/apt-cache"
        test ! -e "$FAKE_LOG/no-lists"
        """,
    "apt-get": """
        echo "$DEBIAN_FRONTEND $*" >>"$FAKE_LOG/apt-get"
        case "$*" in
          *update*) rm -f "$FAKE_LOG/no-lists" "$FAKE_LOG/old-lists" ;;
          *install*)
            if test -e "$FAKE_LOG/old-lists" -o -e "$FAKE_LOG/broken"; then echo 'E: 404 not found'; exit 100; fi
            rm -f "$FAKE_LOG/missing" ;;
        esac
        """,
    "sudo": """
        while [[ $1 == -* ]]; do shift; done
        exec "$@"
        """,
    "cmake": """
        echo "$@" >>"$FAKE_LOG/cmake"
        exec "$REAL_CMAKE" "$@"
        """,
}


class FakeTree:
    def __init__(self, folder: Path):
        self.root = folder / "a tree"
        self.log = folder / "log"
        self.tools = folder / "tools"
        for path in (self.root / "kernels", self.root / "cmake", self.log, self.tools):
            path.mkdir(parents=True)
        for name in ("strait", "CMakePresets.json"):
            shutil.copy2(SOURCE / name, self.root / name)
        self.write("CMakeLists.txt", CMAKE_LISTS)
        self.write("cmake/compile.sh", COMPILE)
        self.write("kernels/program.sh", PROGRAM)
        for name, text in TOOLS.items():
            tool = self.tools / name
            tool.write_text("#!/bin/bash\n" + textwrap.dedent(text))
            tool.chmod(0o755)

    def write(self, path: str, text: str) -> Path:
        (self.root / path).write_text(text)
        return self.root / path

    def calls(self, tool: str) -> list[str]:
        path = self.log / tool
        return path.read_text().splitlines() if path.exists() else []

    def environment(self, **variables: str) -> dict[str, str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("STRAIT_", "CMAKE_"))}
        environment.update(FAKE_LOG=str(self.log), REAL_CMAKE=str(shutil.which("cmake")),
                           PATH=f"{self.tools}:{environment['PATH']}")
        return environment | variables

    def start(self, *arguments: str, launcher=None, cwd=None, **variables: str) -> subprocess.Popen:
        return subprocess.Popen([str(launcher or self.root / "strait"), *arguments], cwd=cwd or self.root,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=self.environment(**variables))

    def run(self, *arguments: str, input: str = "", **options) -> subprocess.CompletedProcess:
        process = self.start(*arguments, **options)
        output, errors = process.communicate(input, timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)
