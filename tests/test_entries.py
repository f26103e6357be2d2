"""The Rust sources keep the rules that the whole rests on: what C can call, and where `unsafe` may stand.

A panic that leaves a function which C called ends the process, so every such function is made by one macro,
which catches. These tests read the sources; what the macro makes is tested in test_panics.py.
"""

import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

CRATES = Path(__file__).resolve().parents[1] / "crates"
SOURCES = sorted(CRATES.glob("*/src/**/*.rs"))
ENTRY = CRATES / "python/src/cpython/entry.rs"
UNSAFE_ROOMS = [
    CRATES / "python/src/cpython",
    CRATES / "engine/src/sys",
    CRATES / "velodrome/src/abi",
    CRATES / "bridge/src/abi.rs",
]

TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<comment>//[^\n]*)
    | (?P<block>/\*)
    | (?P<raw>(?:b|c|br|cr)?r(?P<hashes>\#*)"(?:.|\n)*?"(?P=hashes))
    | (?P<string>[bc]?"(?:\\(?:.|\n)|[^"\\])*")
    | (?P<char>b?'(?:\\(?:x[0-9a-fA-F]{2}|u\{[0-9a-fA-F_]+\}|.)|[^'\\\n])')
    | (?P<lifetime>'\w+)
    | (?P<word>(?:r\#)?[A-Za-z_]\w*)
    | (?P<number>\d[\w.]*?(?=\.\.|\W|$))
    | (?P<punctuation>.)
    """,
    re.X,
)


class Token(NamedTuple):
    kind: str
    text: str
    line: int


def tokens(source):
    """Take a Rust program apart, comments included."""
    found, place, line = [], 0, 1
    while place < len(source):
        match = TOKEN.match(source, place)
        kind, end = match.lastgroup, match.end()
        if kind == "hashes":
            kind = "raw"
        if kind == "block":
            kind, depth = "comment", 1
            while depth:
                nested = re.compile(r"/\*|\*/").search(source, end)
                end, depth = nested.end(), depth + (1 if nested[0] == "/*" else -1)
        text = source[place:end]
        if kind != "space":
            found.append(Token("string" if kind == "raw" else kind, text, line))
        line += text.count("\n")
        place = end
    return found


@cache
def tokens_of(path):
    return tokens(path.read_text())


def code_of(path):
    return [token for token in tokens_of(path) if token.kind != "comment"]


def name(path):
    return str(path.relative_to(CRATES))


def foreign_functions(code):
    """The functions with another calling convention than Rust's that are defined here: name and index.

    `extern "C" fn(A) -> B` is a type, and `extern "C" { fn f(); }` declares what is defined elsewhere.
    """
    for index, token in enumerate(code):
        if token == ("word", "extern", token.line):
            rest = code[index + 1 :]
            if rest and rest[0].kind == "string":
                rest = rest[1:]
            if len(rest) > 1 and rest[0].text == "fn" and rest[1].text != "(":
                yield rest[1].text, index


def matching(code, index):
    """The index of the bracket that closes the one at `index`."""
    pairs, depth = {"(": ")", "[": "]", "{": "}"}, 0
    opening, closing = code[index].text, pairs[code[index].text]
    for place in range(index, len(code)):
        if code[place].kind == "punctuation":
            depth += (code[place].text == opening) - (code[place].text == closing)
        if depth == 0:
            return place
    raise AssertionError("unbalanced")


def macro_body(code, macro):
    """The tokens of `macro_rules! macro { … }`, and the index of the first."""
    for index, (one, *others) in enumerate(zip(code, code[1:], code[2:], code[3:], strict=False)):
        if [one.text, *(other.text for other in others)] == ["macro_rules", "!", macro, "{"]:
            return index + 3, matching(code, index + 3)
    raise AssertionError(f"no macro {macro}")


def attributes(code):
    """The words of every attribute."""
    for index, token in enumerate(code[:-1]):
        if token.text == "#":
            opening = index + 1 + (code[index + 1].text == "!")
            if code[opening].text == "[":
                words = code[opening + 1 : matching(code, opening)]
                yield [word.text for word in words if word.kind == "word"], token.line


@pytest.mark.parametrize(
    "source, kinds",
    [
        ("'a' 'a \"x // y\" // z", "char lifetime string comment"),
        ('r#"a "b" c"# /* a /* b */ c */ unsafe', "string comment word"),
        (r"'\'' b'\\' c'\u{1F}'", "char char word char"),
        ("1..2 0x1f_u8 a.0", "number punctuation punctuation number number word punctuation number"),
    ],
)
def test_the_reader_of_rust_takes_it_apart(source, kinds):
    assert [token.kind for token in tokens(source)] == kinds.split()


def test_the_reader_of_rust_sees_definitions_only():
    source = """
        extern "C" { fn strlen(text: *const u8) -> usize; }
        unsafe extern "C" { fn strerror(code: i32) -> *const i8; }
        type Hook = unsafe extern "C" fn(i32);
        /* extern "C" fn no() {} */ // extern "C" fn no() {}
        const TEXT: &str = r#"extern "C" fn no() {}"#;
        extern "C" fn one() {}
        pub unsafe extern "C-unwind" fn two() {}
        extern fn three() {}
    """
    code = [token for token in tokens(source) if token.kind != "comment"]
    assert [name for name, _ in foreign_functions(code)] == ["one", "two", "three"]


def test_the_sources_are_found():
    assert ENTRY in SOURCES
    assert len(SOURCES) > 30


def test_every_function_that_c_calls_is_made_by_the_entry_macro():
    begin, end = macro_body(code_of(ENTRY), "entry")
    made, others = [], []
    for path in SOURCES:
        if path.is_relative_to(CRATES / "velodrome") or path.is_relative_to(CRATES / "bridge"):
            continue  # No C there: Rust calls their tables, and a panic that gets that far aborts.
        for function, index in foreign_functions(code_of(path)):
            inside = path == ENTRY and begin < index < end
            (made if inside else others).append(f"{name(path)}:{code_of(path)[index].line} {function}")
    assert others == []
    assert len(made) == 1


def test_an_entry_does_nothing_outside_of_the_functions_that_catch():
    code = code_of(ENTRY)
    begin, end = macro_body(code, "entry")
    function = next(index for index in range(begin, end) if code[index].text == "fn")
    opening = next(index for index in range(function, end) if code[index].text == "{")
    body = "".join(token.text for token in code[opening + 1 : matching(code, opening)])
    assert body == "staticAT:$crate::cpython::entry::Place=PLACE;" + (
        "$crate::cpython::entry::$mode(&AT,$failed,move||$body)"
    )


@pytest.mark.parametrize("mode", ["raising", "reporting", "silent"])
def test_each_way_of_entering_catches(mode):
    text = "".join(f" {token.text}" for token in code_of(ENTRY))
    [function] = re.findall(rf"pub fn {mode} <.*?(?= pub fn | # \[)", text)
    assert "run ( place , body )" in function
    [run] = re.findall(r" fn run <.*?(?= # \[)", text)
    assert "catch_unwind" in run


def test_pyo3_makes_the_module_and_nothing_else():
    # Its macros make functions for C as well; they catch panics, too, but do not say where.
    # (The bridge is for modules that are made with PyO3, and made with it itself.)
    found = [
        (words[0], name(path))
        for path in SOURCES
        if not path.is_relative_to(CRATES / "bridge")
        for words, _ in attributes(code_of(path))
        if words and words[0].startswith("py") and words[0] != "pyo3"
    ]
    assert found == [("pymodule", "python/src/module.rs")]


def test_nothing_is_exported_by_name():
    exporting = {"no_mangle", "export_name", "link_section"}
    found = [
        (name(path), line, words)
        for path in SOURCES
        for words, line in attributes(code_of(path))
        if exporting.intersection(words)
    ]
    assert found == []


def test_entries_have_names_of_their_own_that_say_where():
    """`owner.name` finds the entry: owners are string literals, or made of them."""
    for path in SOURCES:
        code = code_of(path)
        for index, token in enumerate(code):
            if token.text == "entry" and code[index + 1].text == "!" and code[index + 2].text == "(":
                mode, owner = code[index + 3], code[index + 4]
                assert mode.text in ("raising", "reporting", "silent"), f"{name(path)}:{token.line}"
                assert owner.kind == "string" or owner.text in ("$", "concat"), f"{name(path)}:{token.line}"


# ---------------------------------------------------------------------------------------------------------
# unsafe


def unsafe_tokens(path):
    return [index for index, token in enumerate(tokens_of(path)) if token[:2] == ("word", "unsafe")]


def test_unsafe_stands_only_in_its_rooms():
    outside = [
        f"{name(path)}:{tokens_of(path)[index].line}"
        for path in SOURCES
        if not any(path.is_relative_to(room) for room in UNSAFE_ROOMS)
        for index in unsafe_tokens(path)
        if kind_of(tokens_of(path)[index + 1 : index + 6]) != "type"
    ]
    assert outside == []


def test_the_compiler_refuses_unsafe_elsewhere():
    for crate in sorted(CRATES.iterdir()):
        [root] = [crate / "src/lib.rs"]
        levels = [words for words, _ in attributes(code_of(root)) if "unsafe_code" in words]
        assert levels and levels[0][0] in ("deny", "forbid"), name(root)


def test_only_the_rooms_are_let_off():
    for path in SOURCES:
        if any(path.is_relative_to(room) for room in UNSAFE_ROOMS):
            continue
        code = code_of(path)
        for words, line in attributes(code):
            if "unsafe_code" not in words or words[0] not in ("allow", "expect", "warn"):
                continue
            after = [token.text for token in code if token.line >= line]
            item = after[after.index("]") + 1 :]
            # Other attributes of the same item may follow.
            while item[0] == "#":
                item = item[item.index("]") + 1 :]
            item = [word for word in item[:4] if word not in ("pub", "(", "crate", ")")]
            assert item[:2] in (["mod", "cpython"], ["mod", "sys"], ["mod", "abi"]), f"{name(path)}:{line}"


def statement_comments(found, index):
    """The comments in front of what holds `found[index]` in its statement, and of that statement."""
    comments, depth = [], 0
    place = index - 1
    while place >= 0:
        token = found[place]
        if token.kind == "comment":
            comments.append(token.text)
        elif token.kind == "punctuation" and depth == 0 and token.text in ";{}":
            break
        elif token.kind == "punctuation" and token.text in ")]":
            depth += 1
        elif token.kind == "punctuation" and token.text in "([":
            depth = max(depth - 1, 0)
        place -= 1
    return comments


def unsafe_uses(path):
    """What follows each `unsafe`, with the comments that belong to it."""
    found = tokens_of(path)
    for index in unsafe_tokens(path):
        after = [token for token in found[index + 1 : index + 6] if token.kind != "comment"]
        yield f"{name(path)}:{found[index].line}", after, statement_comments(found, index)


def kind_of(after):
    texts = [token.text for token in after]
    if texts[0] in ("{", "impl", "trait", "fn"):
        return texts[0]
    if texts[0] == "extern":
        rest = [text for text in texts[1:] if not text.startswith('"')]
        if rest[0] == "{":
            return "declarations"
        return "type" if rest[1] == "(" else "entry"
    return None


def test_every_unsafe_is_of_a_known_kind():
    unknown = [where for path in SOURCES for where, after, _ in unsafe_uses(path) if kind_of(after) is None]
    assert unknown == []


def test_every_unsafe_block_and_implementation_says_why_it_is_sound():
    silent = [
        where
        for path in SOURCES
        for where, after, comments in unsafe_uses(path)
        if kind_of(after) in ("{", "impl") and not any(re.match(r"// SAFETY: \S", text) for text in comments)
    ]
    assert silent == []


def test_every_unsafe_function_and_trait_says_what_it_asks_for():
    silent = []
    for path in SOURCES:
        for where, after, comments in unsafe_uses(path):
            function_type = kind_of(after) == "fn" and after[1].text == "("
            if kind_of(after) not in ("fn", "trait") or function_type:
                continue
            if not any(re.match(r"///\s*# Safety", text) for text in comments):
                silent.append(where)
    assert silent == []


def test_lines_of_a_comment_follow_one_another():
    """A SAFETY comment stands where it is read: right above its statement, with nothing between."""
    for path in SOURCES:
        for one, other in pairwise(tokens_of(path)):
            if one.kind == "comment" and one.text.startswith("// SAFETY:"):
                assert other.line - one.line <= 1, f"{name(path)}:{one.line}"
