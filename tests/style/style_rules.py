"""The rules of docs/architecture.md and CONTRIBUTING.md that a machine can check. Each gives (path, line, message)."""

import re

import source_text

LINES_MOST = 500
COLUMNS_MOST = 120
FUNCTION_LINES_WANTED = 60
FUNCTION_LINES_MOST = 80

# Layers ---------------------------------------------------------------------------------------------------------------
# The first folder or file that begins a path names its box.
BOXES = [
    ("include/hora/hora.hpp", "facade"), ("include/hora/hora.h", "facade"),
    ("include/hora/sampler.hpp", "facade"), ("include/hora/rendezvous.hpp", "facade"),
    ("include/hora/", "vocabulary"),
    ("src/base/", "base"), ("src/interfaces/", "interfaces"),
    ("elastic/store/", "store"), ("elastic/", "elastic"),
    ("src/negotiation/", "negotiation"), ("src/collectives/", "collectives"),
    ("transports/control/", "control"), ("transports/shm/", "shm"), ("transports/inproc/", "inproc"),
    ("transports/tcp/", "tcp"), ("transports/mpi/", "mpi"), ("transports/faulty/", "faulty"), ("cuda/", "cuda"),
    ("src/engine/", "engine"), ("src/launch/", "launch"),
    ("perf/micro_", "workbench"), ("perf/", "perf"), ("src/cli/", "cli"), ("examples/", "examples"),
    ("python_bindings/", "python_bindings"), ("tests/", "workbench"),
]
_SEAMS = {"vocabulary", "base", "interfaces"}
_MECHANISMS = {"control", "shm", "inproc", "tcp", "mpi", "faulty", "cuda"}
_POLICIES = {"elastic", "negotiation", "collectives"}
_BELOW_ENGINE = _SEAMS | _MECHANISMS | _POLICIES | {"store"}
# What each box may include besides itself. The workbench (tests and benchmarks of one box) may include anything.
MAY_INCLUDE = {
    "vocabulary": set(), "facade": {"vocabulary"}, "base": {"vocabulary"}, "interfaces": {"vocabulary", "base"},
    **{box: _SEAMS for box in _POLICIES}, "store": _SEAMS,
    **{box: _SEAMS | {"collectives"} for box in _MECHANISMS},
    "engine": _BELOW_ENGINE | {"facade"}, "launch": _BELOW_ENGINE,
    # Entries see the facade; the tool also sees what it starts and shows.
    "perf": {"vocabulary", "facade", "base"}, "examples": {"vocabulary", "facade"},
    "python_bindings": {"vocabulary", "facade"},
    "cli": {"vocabulary", "facade", "base", "launch", "engine", "collectives", "cuda", "perf"},
}

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*["<]([^">]+)[">]', re.MULTILINE)


def box_of(path):
    return next((box for prefix, box in BOXES if path.startswith(prefix)), None)


def include_findings(path, text, files):
    """`files` are all paths of the repository; an include that is none of them belongs to somebody else."""
    box = box_of(path)
    if box is None:
        yield path, 1, "stands outside of the layer diagram: add its folder to BOXES in tests/style/style_rules.py"
        return
    folder = path.rpartition("/")[0]
    for match in _INCLUDE.finditer(text):
        name, line = match.group(1), text.count("\n", 0, match.start()) + 1
        if "../" in name:
            yield path, line, f"'{name}': name the file from the root of its tree"
            continue
        candidates = (f"include/{name}", f"src/{name}", name, f"{folder}/{name}")
        target = next((full for full in candidates if full in files), None)
        if target is None or box == "workbench":
            continue
        other = box_of(target)
        if other != box and other not in MAY_INCLUDE[box]:
            yield path, line, f"{box} must not include {other} ('{name}'): the arrows of docs/architecture.md"


# Bans -----------------------------------------------------------------------------------------------------------------
# Calls of the system's sleeps; a seam may well have a sleep() of its own.
_SLEEP = r"\bsleep_(?:for|until)\b|\busleep\b|\b(?:clock_)?nanosleep\b|(?:[;{})]\s*|^\s*|[\s(;]::)sleep\s*\("
_EVERYWHERE = [
    (r"\batomic_thread_fence\b", "an order on the atomic itself: the thread sanitizer sees no fences"),
    (r"\busing\s+namespace\s+std\s*;", "the names one by one"),
]
_POLICY = [
    (r"\b(?:system|steady|high_resolution)_clock\b|\bclock_gettime\b|\bgettimeofday\b",
     "a TimePoint argument (base/time.h)"),
    (r"\benviron\b|\bEnvironment\b", "an option handed in by the engine"),
    (r"\bstd::j?thread\b|\bpthread_\w+", "a state machine that the engine drives"),
    (r"\bstd::(?:\w+_)?mutex\b|\bstd::condition_variable\b|\bstd::(?:lock_guard|unique_lock|scoped_lock)\b",
     "nothing: policy is called by one thread"),
    (r"\bsocket\s*\(|\bsys/socket\.h\b|\b(?:send|recv)(?:msg|to|from)\s*\(", "an action that the engine performs"),
    (r"\brandom_device\b|\bs?rand\s*\(|\bmt19937\w*|\b\w+_distribution\b", "base/random.h with a seed handed in"),
    (_SLEEP, "next_deadline()"),
    (r"\bunordered_(?:multi)?(?:map|set)\b", "std::map, std::set or a sorted vector: one order everywhere"),
]
_TESTS = [
    (_SLEEP, "a wait on a condition with a deadline"),
]
_GETENV = (r"\b(?:secure_)?getenv\b", "Environment of base/environment.h: only src/base reads the environment")
_ENVIRON = (r"\benviron\b", "Environment of base/environment.h: only src/base sees the environment")

# (path, rule) -> why it may.
EXEMPT = {
    ("src/base/failpoint.cc", "mutable"): "kills and stops the process, so its counters are the process's own",
    ("src/negotiation/name_index.h", "unordered_map"): "looked up, never iterated",
}


def _bans_of(path):
    bans = list(_EVERYWHERE)
    if box_of(path) in _POLICIES:
        bans += _POLICY
    if path.startswith("tests/"):
        bans += _TESTS
    if box_of(path) != "base":
        bans.append(_GETENV)
        if box_of(path) != "workbench":
            bans.append(_ENVIRON)
    return bans


def ban_findings(path, text):
    code = source_text.without_comments(text)
    for pattern, instead in _bans_of(path):
        for match in re.finditer(pattern, code, re.MULTILINE):
            if (path, match.group(0)) in EXEMPT:
                continue
            yield path, code.count("\n", 0, match.start()) + 1, (
                f"'{match.group(0).strip()}' is banned here; use {instead}")


def static_findings(path, text):
    if (path, "mutable") in EXEMPT:
        return
    for variable in source_text.outline(text)[1]:
        yield path, variable.line, (f"'{variable.text[:60]}' is mutable and belongs to nobody: no globals, no "
                                    "singletons; give it to the object that needs it")


def marker_findings(path, text):
    for number, line in enumerate(text.split("\n"), 1):
        if re.search(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b", line):
            yield path, number, "a promise in a comment: do it, or open an issue"
        if "-march" + "=native" in line:
            yield path, number, "one binary per architecture: dispatch at run time"


# Shape ----------------------------------------------------------------------------------------------------------------
def size_findings(path, text):
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    else:
        yield path, len(lines), "the last line has no end"
    if len(lines) > LINES_MOST:
        yield path, len(lines), f"{len(lines)} lines; a file has one subject and at most {LINES_MOST} lines"
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS_MOST:
            yield path, number, f"{len(line)} columns; at most {COLUMNS_MOST}"
        if line != line.rstrip() or "\t" in line and not path.endswith("Makefile"):
            yield path, number, "a tab, or spaces at the end"


def function_findings(path, text):
    for function in source_text.outline(text)[0]:
        if function.lines > FUNCTION_LINES_MOST:
            wanted = f"at most {FUNCTION_LINES_WANTED} are wanted"
            yield path, function.line, f"{function.name}: {function.lines} lines; {wanted}"


def long_functions(path, text):
    """Those that are longer than wanted and still allowed."""
    return [(path, function.line, f"{function.name}: {function.lines} lines")
            for function in source_text.outline(text)[0]
            if FUNCTION_LINES_WANTED < function.lines <= FUNCTION_LINES_MOST]


def header_findings(path, text):
    if not text.startswith("//"):
        yield path, 1, "a header begins with one to three lines of purpose"
    if "#pragma once" not in text:
        yield path, 1, "#pragma once is missing"


def own_header_findings(path, text, files):
    """What proves that the header compiles alone (see CMakeLists.txt here)."""
    header = path.removesuffix(".cc") + ".h"
    first = re.search(r'^#include [<"](.*)[>"]', text, re.MULTILINE)
    if path.endswith(".cc") and header in files and not (first and header.endswith(first.group(1))):
        yield path, 1, f"its own header, {header}, is not the first that it includes"


def markdown_findings(path, text):
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^# .+", prose, re.MULTILINE)
    if len(titles) != 1:
        yield path, 1, f"{len(titles)} titles ('# ...'); a page has one"


# Builds ---------------------------------------------------------------------------------------------------------------
def _cmake_calls(text):
    text = re.sub(r"#[^\n]*", "", text)
    for match in re.finditer(r"\b(\w+)\s*\(([^()]*)\)", text):
        yield match.group(1).lower(), match.group(2).split()


def listed_sources(cmake_files):
    """(all sources that some CMake file lists, those that a hora_test lists); `cmake_files` maps path to text."""
    built, tested = set(), set()
    for path, text in cmake_files.items():
        folder = path.rpartition("/")[0]
        for command, words in _cmake_calls(text):
            for word in words:
                word = word.replace("${CMAKE_CURRENT_SOURCE_DIR}/", "")
                if re.search(r"\.(?:cc|h|hpp|cu)$", word) is None:
                    continue
                full = word.split("}/", 1)[1] if "PROJECT_SOURCE_DIR}/" in word else f"{folder}/{word}".lstrip("/")
                built.add(full)
                if command == "hora_test":
                    tested.add(full)
    return built, tested


def build_findings(sources, cmake_files):
    built, tested = listed_sources(cmake_files)
    for path in sources:
        if path not in built:
            yield path, 1, "no CMake target lists it: unbuilt files rot"
        elif path.endswith("_test.cc") and path not in tested:
            yield path, 1, "no hora_test() lists it: a test that does not run is none"
