"""YAML with plain values alone, of a bounded size, depth and number of values.

A short text can stand for millions of values, by aliases of aliases, and can name Python objects by tags.
Here an alias counts as all that it repeats, and tags are refused. A date is text, as in a folder's name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from pipelines.errors import reason

MAX_BYTES = 64 * 2**10
MAX_VALUES = 10_000
MAX_DEPTH = 50
_TOO_LONG = f"has more than {MAX_BYTES // 2**10} KiB; settings take far less"
_TYPES = ("null", "bool", "int", "float", "str", "seq", "map", "merge")
_TAG = "tag:yaml.org,2002:"
_DATE = f"{_TAG}timestamp"


class PlainLoader(yaml.SafeLoader):
    """Reads one document of plain values."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as in the class above
        first: [pair for pair in pairs if pair[0] != _DATE]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = self.values = 0
        self.sizes: dict[int, int] = {}  # values in each finished node, by its id

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next node, counted with all that it repeats."""
        mark = self.peek_event().start_mark
        is_alias, before = self.check_event(yaml.AliasEvent), self.values
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _error(f"is nested more than {MAX_DEPTH} deep", mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if is_alias and id(node) not in self.sizes:
            raise _error("has an alias inside of what it repeats", mark)
        self.values += self.sizes[id(node)] if is_alias else 1
        self.sizes[id(node)] = self.values - before
        if self.values > MAX_VALUES:
            raise _error(f"has more than {MAX_VALUES} values, counted with what aliases repeat", mark)
        _check_plain(node)
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        """The next mapping, whose keys are plain and differ."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _error("has a key that is no plain value", key.start_mark)
            if key.tag != f"{_TAG}merge" and (key.tag, key.value) in seen:
                raise _error(f"has the key {key.value[:40]!r} twice in one mapping", key.start_mark)
            seen.add((key.tag, key.value))
        return node


def load(data: bytes) -> Any:
    """The document's value.

    Raises:
        yaml.YAMLError: In one line, if it is no YAML in UTF-8 or not plain.
    """
    if len(data) > MAX_BYTES:
        raise yaml.YAMLError(_TOO_LONG)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise yaml.YAMLError(f"is not in UTF-8 at byte {error.start}; save it so") from error
    return _read(text, PlainLoader.get_single_data)


def check(text: str) -> None:
    """Refuse what `load` would, without making the values.

    Raises:
        yaml.YAMLError: In one line.
    """
    if len(text) > MAX_BYTES:
        raise yaml.YAMLError(_TOO_LONG)
    _read(text, PlainLoader.get_single_node)


def _read(text: str, read: Callable[[PlainLoader], Any]) -> Any:
    try:
        return read(PlainLoader(text))
    except yaml.MarkedYAMLError as error:
        raise _error(error.problem or error.context or "cannot be read", error.problem_mark) from error
    except yaml.YAMLError as error:
        raise yaml.YAMLError(str(error).splitlines()[0]) from error
    except (ValueError, KeyError, IndexError) as error:  # such as an integer of thousands of digits
        raise yaml.YAMLError(f"has a value that is not of its type ({reason(error)[:100]})") from error


def _check_plain(node: Any) -> None:
    if node.tag.removeprefix(_TAG) not in _TYPES:
        tag = node.tag.replace(_TAG, "!!")[:60]
        plain = "values are plain: text (in quotes), numbers, lists, mappings"
        raise _error(f"has the tag {tag}; {plain}", node.start_mark)
    if isinstance(node, yaml.ScalarNode) and ("\0" in node.value or not _is_text(node.value)):
        raise _error("has a text with a NUL or half a character", node.start_mark)


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _error(problem: str, mark: Any) -> yaml.YAMLError:
    return yaml.YAMLError(f"line {mark.line + 1} {problem}" if mark else problem)
