"""Reads C++ without a compiler: text without comments and literals, and where functions and variables stand."""

import dataclasses
import re

_LITERAL_OR_COMMENT = re.compile(
    r'R"(?P<fence>[^()\s\\]{0,16})\((?:.|\n)*?\)(?P=fence)"'
    r'|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])*'"
    r"|//[^\n]*"
    r"|/\*(?:.|\n)*?\*/")
_PREPROCESSOR = re.compile(r"^[ \t]*#(?:\\\n|[^\n])*", re.MULTILINE)


def _blank(text):
    return re.sub(r"[^\n]", " ", text)


def without_comments(text):
    """Comments become spaces, literals become empty ones; every line stays where it was."""

    def replacement(match):
        found = match.group(0)
        if found.startswith("/"):
            return _blank(found)
        return found[0] + _blank(found[1:-1]) + found[-1]

    return _LITERAL_OR_COMMENT.sub(replacement, text)


def code_only(text):
    """As without_comments, and without preprocessor lines."""
    return _PREPROCESSOR.sub(lambda match: _blank(match.group(0)), without_comments(text))


@dataclasses.dataclass
class Function:
    name: str
    line: int
    lines: int


@dataclasses.dataclass
class Variable:
    """A definition that lives as long as the process and can change."""

    text: str
    line: int


@dataclasses.dataclass
class _Scope:
    kind: str  # namespace, type, function, block or initializer
    line: int = 0
    name: str = ""
    outer: tuple | None = None  # the statement that a brace interrupted


_TYPE = re.compile(r"^(?:template\s*<.*>\s*)?(?:export\s+)?(?:typedef\s+)?(?:class|struct|union|enum)\b")
_CONSTANT = re.compile(r"\b(?:const|constexpr|constinit)\b")
_NOT_A_VARIABLE = re.compile(
    r"^(?:using|typedef|template|friend|class|struct|union|enum|extern|namespace|static_assert|public|private|protected"
    r"|concept|return|goto|asm)\b")
_DECLARATOR = re.compile(r"^[\w:<>,*&\s\[\].]+\s[*&]?\w+(?:\[\w*\])*\s*$")
_LABEL = re.compile(r"^\s*(?:public|private|protected|default|case\b.*)\s*:$")


def _kind_of(header, before, parent):
    if before and not before.isspace() and not header.endswith((")", "=", ",", "(", "{")):
        return "initializer"  # clang-format puts a space before every other brace
    if header.endswith(("=", ",", "(", "return")):
        return "initializer"
    if re.match(r"^(?:inline\s+)?namespace\b", header) or re.match(r'^extern\s*"', header):
        return "namespace"
    if parent in ("function", "block"):
        return "block"
    if _TYPE.match(header) and not re.search(r"\)\s*(?:const|noexcept|override|final)?\s*$", header):
        return "type"
    if "(" in header:
        return "function"
    return "initializer"


def _name_of(header):
    names = re.findall(r"([~\w:]+)\s*\(", header)
    return names[0] if names else header[:40]


def _variable(statement, scope):
    """Whether `statement`, met in a scope of this kind, defines something mutable of static storage."""
    text = statement.strip()
    if not text or _CONSTANT.search(text) or _NOT_A_VARIABLE.match(text):
        return False
    if scope in ("function", "block"):
        return re.match(r"^(?:static|thread_local)\b", text) is not None
    declarator = re.sub(r"=.*|\{.*", "", text, flags=re.DOTALL)
    declarator = re.sub(r"\[\[.*?\]\]|\balignas\s*\([^)]*\)", "", declarator)
    if "(" in declarator:
        return False
    if scope == "type":
        return re.match(r"^(?:inline\s+)?(?:static|thread_local)\b", text) is not None
    return scope == "namespace" and _DECLARATOR.match(declarator.strip()) is not None


def outline(text):
    """The functions and the mutable variables of static storage in C++ `text`, as (functions, variables)."""
    code = code_only(text)
    functions, variables = [], []
    scopes = [_Scope("namespace")]
    start, line, depth = None, 1, 0
    statement = []

    def finish():
        nonlocal statement, start
        joined = "".join(statement)
        if start is not None and _variable(joined, scopes[-1].kind):
            variables.append(Variable(" ".join(joined.split()), start))
        statement, start = [], None

    for index, character in enumerate(code):
        if character == "\n":
            line += 1
        if character in "([":
            depth += 1
        elif character in ")]":
            depth -= 1
        if character == "{":
            header = " ".join("".join(statement).split())
            kind = "initializer" if scopes[-1].kind == "initializer" else _kind_of(
                header, code[index - 1] if index else "", scopes[-1].kind)
            if depth > 0 and kind != "initializer":
                kind = "block"
            outer = (statement + ["{"], start, depth) if kind == "initializer" or depth > 0 else None
            scopes.append(_Scope(kind, start or line, _name_of(header) if kind == "function" else "", outer))
            statement, start, depth = [], None, 0
        elif character == "}" and len(scopes) > 1:
            closed = scopes.pop()
            if closed.kind == "function":
                functions.append(Function(closed.name, closed.line, line - closed.line + 1))
            statement, start, depth = closed.outer or ([], None, 0)
            if closed.outer:
                statement = statement + ["}"]
        elif character == ";" and depth == 0 and scopes[-1].kind != "initializer":
            finish()
        else:
            if start is None and not character.isspace():
                start = line
            statement.append(character)
            if character == ":" and len(statement) < 120 and _LABEL.match("".join(statement)):
                statement, start = [], None
    return functions, variables
