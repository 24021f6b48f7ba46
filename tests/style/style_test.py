#!/usr/bin/env python3
"""Checks the repository against its own rules, after proving on small bad snippets that each rule can fail.

usage: style_test.py [ROOT]
"""

import itertools
import os
import sys
import unittest

import style_rules as rules
import source_text

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
SKIPPED_FOLDERS = {"build", ".git", "__pycache__", "node_modules"}


def repository(root):
    """Path to text of every file that the rules are about."""
    files = {}
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS and not name.startswith("venv"))
        for name in sorted(names):
            if name.endswith((".cc", ".h", ".hpp", ".cu", ".c", ".py", ".md", ".cmake", ".sh", ".map")) or name in (
                    "CMakeLists.txt", "Makefile", "CMakePresets.json"):
                full = os.path.join(folder, name)
                with open(full, encoding="utf-8") as file:
                    files[os.path.relpath(full, root)] = file.read()
    return files


def is_cpp(path):
    return path.endswith((".cc", ".h", ".hpp", ".cu"))


def findings(files):
    sources = [path for path in files if is_cpp(path)]
    cmake_files = {path: text for path, text in files.items() if path.endswith((".cmake", "CMakeLists.txt"))}
    results = [rules.build_findings(sources, cmake_files)]
    for path, text in files.items():
        if path.endswith(".md"):
            results.append(rules.markdown_findings(path, text))
            continue
        results += [rules.size_findings(path, text), rules.marker_findings(path, text)]
        if is_cpp(path):
            results += [rules.include_findings(path, text, files), rules.ban_findings(path, text),
                        rules.function_findings(path, text), rules.own_header_findings(path, text, files)]
            if not path.startswith("tests/"):
                results.append(rules.static_findings(path, text))
        if path.endswith((".h", ".hpp")):
            results.append(rules.header_findings(path, text))
    return sorted(itertools.chain.from_iterable(results))


class Rules(unittest.TestCase):
    """Each rule finds what it is about, and leaves its good neighbour alone."""

    def found(self, rule, *arguments):
        return [message for _, _, message in rule(*arguments)]

    def assert_bans(self, path, bad, good):
        self.assertEqual(len(self.found(rules.ban_findings, path, bad)), 1, bad)
        self.assertEqual(self.found(rules.ban_findings, path, good), [], good)

    def test_layers(self):
        files = {"src/base/log.h", "src/negotiation/a.h", "elastic/b.h", "elastic/store/s.h", "src/collectives/c.h",
                 "transports/shm/t.h", "transports/tcp/t.h", "src/engine/e.h", "include/hora/view.hpp",
                 "include/hora/hora.hpp"}

        def verdict(path, include):
            return bool(self.found(rules.include_findings, path, f'#include "{include}"\n', files))

        for path, include in [("elastic/b.cc", "negotiation/a.h"), ("src/negotiation/a.cc", "collectives/c.h"),
                              ("src/base/log.cc", "elastic/b.h"), ("elastic/b.cc", "transports/shm/t.h"),
                              ("transports/shm/x.cc", "elastic/b.h"), ("transports/shm/x.cc", "transports/tcp/t.h"),
                              ("perf/runner.cc", "engine/e.h"), ("include/hora/view.hpp", "hora/hora.hpp"),
                              ("elastic/store/s.cc", "elastic/b.h"), ("elastic/b.cc", "../src/base/log.h"),
                              ("somewhere/x.cc", "base/log.h"), ("src/launch/l.cc", "engine/e.h")]:
            self.assertTrue(verdict(path, include), (path, include))
        for path, include in [("elastic/b.cc", "base/log.h"), ("elastic/x.cc", "elastic/b.h"), ("elastic/x.cc", "b.h"),
                              ("transports/shm/x.cc", "collectives/c.h"), ("src/engine/e.cc", "transports/shm/t.h"),
                              ("src/engine/e.cc", "elastic/b.h"), ("src/base/log.cc", "hora/view.hpp"),
                              ("tests/unit/x.cc", "engine/e.h"), ("elastic/b.cc", "vector")]:
            self.assertFalse(verdict(path, include), (path, include))

    def test_bans_in_policy(self):
        policy = "src/negotiation/x.cc"
        for bad in ["auto t = std::chrono::steady_clock::now();", "std::thread t;", "std::mutex m;",
                    "int f = socket(1, 2, 3);",
                    "std::random_device d;", "int r = rand();", "usleep(3);", "std::unordered_map<int, int> m;",
                    'auto h = getenv("HOME");', "auto e = ::environ;"]:
            count = len(self.found(rules.ban_findings, policy, bad))
            self.assertGreaterEqual(count, 1, bad)
        self.assertEqual(self.found(rules.ban_findings, policy, 'int operand(); // std::mutex\nauto s = "rand()";'), [])

    def test_bans_elsewhere(self):
        self.assert_bans("tests/unit/x.cc", "std::this_thread::sleep_for(1ms);", "wait_until(ready);")
        self.assert_bans("tests/unit/x.cc", "if (a) {\n  sleep(1);\n}", "void sleep(int turns);\nlinks_->sleep(3);")
        self.assert_bans("tests/unit/x.cc", "::usleep(1);", "waker.sleep();")
        self.assert_bans("src/engine/x.cc", 'auto v = std::getenv("A");', "auto v = environment.find(name);")
        self.assert_bans("src/engine/x.cc", "std::atomic_thread_fence(o);", "a.store(1, std::memory_order_release);")
        self.assertEqual(self.found(rules.ban_findings, "src/base/x.cc", 'getenv("A")'), [])
        self.assert_bans("src/launch/x.cc", "execve(a, b, environ);", "execve(a, b, variables);")

    def test_mutable_statics(self):
        for bad in ["int f() {\n  static int calls = 0;\n  return ++calls;\n}\n",
                    "namespace a {\nint counter = 0;\n}\n",
                    "static std::vector<int> all;\n", "struct A {\n  static int count;\n};\n",
                    "thread_local Engine* current = nullptr;\n",
                    "Engine& e() {\n  static Engine e{1, 2};\n  return e;\n}\n"]:
            self.assertEqual(len(self.found(rules.static_findings, "src/a.cc", bad)), 1, bad)
        for good in ["static constexpr int kA = 1;\n",
                     "int f() {\n  static const int a = g();\n  return a;\n}\n",
                     "struct A {\n  static A make();\n  int b = 0;\n  std::vector<int> c{1, 2};\n};\n",
                     "namespace {\nconst char* const kName = nullptr;\nint f(int a);\n}\n", "enum class E { a, b };\n",
                     "A::A() : b_(1), c_{2} {\n  int d = 0;\n}\n", "constexpr int kT[] = {1, 2};\nusing A = int;\n",
                     "void f() {\n  std::sort(a, b, [](int x) { return x; });\n  int y = 0;\n}\n",
                     "template <class T>\nclass B;\n"]:
            self.assertEqual(self.found(rules.static_findings, "src/a.cc", good), [], good)

    def test_promises_and_flags(self):
        self.assertEqual(len(self.found(rules.marker_findings, "a.cc", "// TO" "DO: later\n")), 1)
        self.assertEqual(len(self.found(rules.marker_findings, "a.cmake", "add(-march" "=native)\n")), 1)
        self.assertEqual(self.found(rules.marker_findings, "a.cc", "// Todos los rangos.\n"), [])

    def test_sizes(self):
        self.assertEqual(len(self.found(rules.size_findings, "a.cc", "a\n" * 501)), 1)
        self.assertEqual(len(self.found(rules.size_findings, "a.cc", "x" * 121 + "\n")), 1)
        self.assertEqual(len(self.found(rules.size_findings, "a.cc", "a \n")), 1)
        self.assertEqual(len(self.found(rules.size_findings, "a.cc", "a")), 1)
        self.assertEqual(self.found(rules.size_findings, "a.cc", "é" * 120 + "\n" + "a\n" * 499), [])

    def test_functions(self):
        body = "  if (a) {\n    b();\n  }\n"
        long = "namespace n {\nint A::f(int a) const {\n" + body * 27 + "}\n}\n"
        self.assertEqual(len(self.found(rules.function_findings, "a.cc", long)), 1)
        middle = "A::A(int a) : b_{a}, c_(a) {\n" + body * 22 + "}\n"
        self.assertEqual(self.found(rules.function_findings, "a.cc", middle), [])
        self.assertEqual(len(rules.long_functions("a.cc", middle)), 1)
        several = "struct A {\n" + "  int f() {\n    return 1;\n  }\n" * 40 + "};\n"
        self.assertEqual(self.found(rules.function_findings, "a.h", several), [])
        self.assertEqual(len(source_text.outline(several)[0]), 40)

    def test_headers_and_pages(self):
        self.assertEqual(len(self.found(rules.header_findings, "a.h", "#pragma once\n")), 1)
        self.assertEqual(len(self.found(rules.header_findings, "a.h", "// Purpose.\n")), 1)
        self.assertEqual(self.found(rules.header_findings, "a.h", "// Purpose.\n#pragma once\n"), [])
        with_header = {"src/a.h": "", "src/a.cc": ""}
        for bad in ("#include <vector>\n", '#include "b.h"\n#include "a.h"\n', "int x;\n"):
            self.assertEqual(len(self.found(rules.own_header_findings, "src/a.cc", bad, with_header)), 1, bad)
        self.assertEqual(self.found(rules.own_header_findings, "src/a.cc", '#include "a.h"\n', with_header), [])
        self.assertEqual(self.found(rules.own_header_findings, "src/b.cc", "#include <vector>\n", with_header), [])
        self.assertEqual(len(self.found(rules.markdown_findings, "a.md", "# A\n# B\n")), 1)
        self.assertEqual(len(self.found(rules.markdown_findings, "a.md", "text\n")), 1)
        self.assertEqual(self.found(rules.markdown_findings, "a.md", "# A\n```\n# no title\n```\n## B\n"), [])

    def test_builds(self):
        cmake = {"a/CMakeLists.txt": "hora_module(m SOURCES x.cc\n x.h # y.cc\n)",
                 "t/CMakeLists.txt": "hora_test(t SOURCES x_test.cc)",
                 "cmake/i.cmake": "install(FILES ${PROJECT_SOURCE_DIR}/include/h.hpp)"}
        built = ["a/x.cc", "a/x.h", "t/x_test.cc", "include/h.hpp"]
        self.assertEqual(self.found(rules.build_findings, built, cmake), [])
        self.assertEqual(len(self.found(rules.build_findings, ["a/y.cc"], cmake)), 1)
        cmake["t/CMakeLists.txt"] = "add_executable(t x_test.cc)"
        self.assertEqual(len(self.found(rules.build_findings, built, cmake)), 1)


class Repository(unittest.TestCase):
    def test_keeps_the_rules(self):
        files = repository(ROOT)
        self.assertGreater(len(files), 20, f"{ROOT} is not the repository")
        for path, line, message in itertools.chain.from_iterable(
                rules.long_functions(path, text) for path, text in files.items() if is_cpp(path)):
            print(f"{path}:{line}: note: {message}; {rules.FUNCTION_LINES_WANTED} are wanted")
        found = [f"{path}:{line}: {message}" for path, line, message in findings(files)]
        if found:
            self.fail("\n" + "\n".join(found))


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        ROOT = os.path.abspath(sys.argv.pop(1))
    unittest.main()
