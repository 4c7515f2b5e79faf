"""Runs an untrusted pickle within bounds: what it makes is not much larger than its file.

A pickle is a program for a machine with a stack and a memo. Three tricks make a short one endless: the memo
puts one value into many places (doubling it at each step), nesting goes deeper than Python's own recursion,
and lengths and indices announce what is not there. So every container is weighed when it is made, with all
that it holds, counted as often as it is held; one that is inside another cannot change any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from pipelines.untrusted.pickle_objects import NAMES, Array, Dtype, Function, check_keys
from pipelines.untrusted.pickle_opcodes import VALUES, Source, name_of, number

MAX_OPCODES = 20_000_000
MAX_CONTAINERS = 1_000_000
"""An empty set takes 250 bytes with what is known of it, and is one byte of a file."""
MAX_DEPTH = 50
"""Of containers inside containers, and of open marks."""
WEIGHT_PER_BYTE = 8
SPARE_WEIGHT = 2**22
"""A value may weigh this and `WEIGHT_PER_BYTE` times its file's bytes. A string weighs what it is long."""
NAME_SHOWN = 60
_CONTAINERS = (Array, Dtype, dict, set, frozenset)
_PLAIN = (str, bytes, bytearray)


class Refused(ValueError):
    """What a pickle asks for is not given."""


@dataclass(slots=True)
class _Held:
    """What is known of a container."""

    value: Any  # kept alive, so that its id stays its own
    depth: int = 0
    weight: int = 0
    inside: bool = False  # of another container


class Machine:
    """Runs one pickle.

    Args:
        file: Open at its start.
        size: The file's bytes.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.source = Source(file, size)
        self.limit = WEIGHT_PER_BYTE * size + SPARE_WEIGHT
        self.stack: list[Any] = []
        self.marks: list[int] = []  # lengths of the stack
        self.memo: dict[int, Any] = {}
        self.held: dict[int, _Held] = {}  # containers by id
        self.called = 0  # the weight of all arguments of calls

    def run(self) -> Any:
        """The value that the pickle makes.

        Raises:
            Refused: If it is too much, or names what is not in the table.
            Exception: Of any kind, if it is broken.
        """
        source, stack = self.source, self.stack
        for _ in range(MAX_OPCODES):
            code = source.read(1)
            if code in VALUES:
                stack.append(VALUES[code](source))
            elif code in _STEPS:
                _STEPS[code](self)
            elif code == b".":
                return self.take(1)[0]
            else:
                raise Refused(f"uses {name_of(code)}, which is refused")
        raise Refused(
            f"has more than {MAX_OPCODES} opcodes, which is refused; keep numbers in arrays and not in lists"
        )

    def take(self, count: int) -> list[Any]:
        """The last values, taken from the stack."""
        start = len(self.stack) - count
        if start < (self.marks[-1] if self.marks else 0):
            raise ValueError("a value is missing")
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def since_mark(self) -> list[Any]:
        """The values since the last mark, taken from the stack."""
        return self.take(len(self.stack) - self.marks.pop())

    def push(self, value: Any, items: Sequence[Any] = ()) -> None:
        """Push a new container that holds these items."""
        if len(self.held) >= MAX_CONTAINERS:
            raise Refused(f"has more than {MAX_CONTAINERS} containers, which is refused")
        held = self.held[id(value)] = _Held(value)
        if items:
            self._add(held, items)
        self.stack.append(value)

    def extend(self, kind: type, items: Sequence[Any]) -> Any:
        """The last value of the stack, a container of this type, once these items are added to its weight."""
        target = self.take(1)[0]
        if type(target) is not kind:
            raise ValueError(f"items for a {type(target).__name__} instead of a {kind.__name__}")
        self._add(self.held[id(target)], items)
        self.stack.append(target)
        return target

    def call(self, function: Any, arguments: Any) -> None:
        """Call a function of the table and push what it returns."""
        if type(function) is not Function or type(arguments) is not tuple:
            raise ValueError(f"a call of a {type(function).__name__} with a {type(arguments).__name__}")
        self._charge(arguments)
        made = function.call(*arguments)
        if isinstance(made, _CONTAINERS):
            self.push(made, (arguments,))
        else:
            self.stack.append(made)

    def build(self) -> None:
        """Give an array or a dtype its state."""
        target, state = self.take(2)
        if not isinstance(target, Array | Dtype):
            raise ValueError(f"a state for a {type(target).__name__}, which takes none")
        self._charge(state)
        self._add(self.held[id(target)], (state,))
        target.__setstate__(state)
        self.stack.append(target)

    def find(self, module: Any, name: Any) -> None:
        """Push the table's entry for a name."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name that is no string")
        if (module, name) not in NAMES:
            raise Refused(
                f"asks for {module[:NAME_SHOWN]}.{name[:NAME_SHOWN]}, which is refused; a feature file holds"
                " numpy arrays, numbers, strings, lists, tuples, dicts and sets alone. If you trust the file,"
                " convert it where it was made"
            )
        self.stack.append(NAMES[module, name])

    def put(self, index: int) -> None:
        """Keep the last value in the memo; indices follow each other, from 0 or, in Python 2, from 1."""
        if not 0 <= index <= len(self.memo) + 1:
            raise Refused(f"keeps its value {len(self.memo)} under the index {index}, which is refused")
        if not self.stack:
            raise ValueError("a value is missing")
        self.memo[index] = self.stack[-1]

    def mark(self) -> None:
        """Remember where the stack ends."""
        if len(self.marks) >= MAX_DEPTH:
            raise Refused(f"is nested more than {MAX_DEPTH} deep, which is refused")
        self.marks.append(len(self.stack))

    def _charge(self, arguments: Any) -> None:
        """Count what is given to a call: it is copied, and without the memo nothing is copied twice."""
        own = self.held.get(id(arguments))
        self.called += own.weight if own else len(arguments) if isinstance(arguments, _PLAIN) else 1
        self._check_weight(self.called)

    def _add(self, target: _Held, items: Sequence[Any]) -> None:
        """Add items to what is known of a container.

        Raises:
            Refused: If it becomes too deep or too heavy, or is inside another one, such as itself.
        """
        held, weight = self.held, len(items)
        for item in items:
            own = held.get(id(item))
            if own:
                own.inside = True
                target.depth = max(target.depth, own.depth + 1)
                weight += own.weight
            elif isinstance(item, _PLAIN):
                weight += len(item)
        target.weight += weight
        if target.inside:
            raise Refused("holds a container that changes once it is inside another one, which is refused")
        if target.depth > MAX_DEPTH:
            raise Refused(f"is nested more than {MAX_DEPTH} deep, which is refused")
        self._check_weight(target.weight)

    def _check_weight(self, weight: int) -> None:
        if weight > self.limit:
            raise Refused(
                f"repeats values until its {self.source.size} bytes hold more than {self.limit} values and"
                " characters, which is refused"
            )


def _get(machine: Machine, index: int) -> None:
    if index not in machine.memo:
        raise ValueError(f"no value was kept under the index {index}")
    machine.stack.append(machine.memo[index])


def _tuple(machine: Machine, items: list[Any]) -> None:
    machine.push(tuple(items), items)


def _list(machine: Machine) -> None:
    items = machine.since_mark()
    machine.push(items, items)


def _append(machine: Machine, items: list[Any]) -> None:
    machine.extend(list, items).extend(items)


def _dict(machine: Machine) -> None:
    items = machine.since_mark()
    machine.push({}, ())
    _set_items(machine, items)


def _set_items(machine: Machine, items: list[Any]) -> None:
    check_keys(items[::2])
    machine.extend(dict, items).update(zip(items[::2], items[1::2], strict=True))


def _add_items(machine: Machine, items: list[Any]) -> None:
    check_keys(items)
    machine.extend(set, items).update(items)


def _frozenset(machine: Machine) -> None:
    items = machine.since_mark()
    check_keys(items)
    machine.push(frozenset(items), items)


def _pop(machine: Machine) -> None:
    """Remove the last value, or the mark if there is none after it."""
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.take(1)


def _pop_mark(machine: Machine) -> None:
    machine.since_mark()


def _dup(machine: Machine) -> None:
    value = machine.take(1)[0]
    machine.stack += [value, value]


def _global(machine: Machine) -> None:
    module, name = machine.source.line(), machine.source.line()
    machine.find(module.decode("utf-8"), name.decode("utf-8"))


def _protocol(machine: Machine) -> None:
    """The number of the protocol says nothing that its opcodes do not."""
    machine.source.exactly(1)


def _frame(machine: Machine) -> None:
    """A frame is a hint for reading ahead, which is not done here; it ends inside the file all the same."""
    length = number("<Q")(machine.source)
    if length > machine.source.size:
        raise ValueError(f"cut off: a frame of {length} bytes is announced, which are not there")


def _instance(machine: Machine) -> None:
    """INST, which names a class of Python 2: there is none in the table, so the name is the error."""
    _global(machine)
    raise Refused("makes an object by INST, which is refused")


def _outside(machine: Machine) -> None:
    raise Refused("refers to an object outside the file, which is refused")


def _by_index(step: Callable[[Machine, int], None], form: str) -> Callable[[Machine], None]:
    index = number(form)
    return lambda machine: step(machine, index(machine.source))


_STEPS: dict[bytes, Callable[[Machine], None]] = {
    b"\x80": _protocol,
    b"\x95": _frame,
    b"(": Machine.mark,
    b"0": _pop,
    b"1": _pop_mark,
    b"2": _dup,
    b"]": lambda machine: machine.push([]),
    b"}": lambda machine: machine.push({}),
    b"\x8f": lambda machine: machine.push(set()),
    b")": lambda machine: machine.stack.append(()),
    b"l": _list,
    b"t": lambda machine: _tuple(machine, machine.since_mark()),
    b"\x85": lambda machine: _tuple(machine, machine.take(1)),
    b"\x86": lambda machine: _tuple(machine, machine.take(2)),
    b"\x87": lambda machine: _tuple(machine, machine.take(3)),
    b"d": _dict,
    b"\x91": _frozenset,
    b"a": lambda machine: _append(machine, machine.take(1)),
    b"e": lambda machine: _append(machine, machine.since_mark()),
    b"s": lambda machine: _set_items(machine, machine.take(2)),
    b"u": lambda machine: _set_items(machine, machine.since_mark()),
    b"\x90": lambda machine: _add_items(machine, machine.since_mark()),
    b"g": lambda machine: _get(machine, int(machine.source.digits())),
    b"h": _by_index(_get, "<B"),
    b"j": _by_index(_get, "<I"),
    b"p": lambda machine: machine.put(int(machine.source.digits())),
    b"q": _by_index(Machine.put, "<B"),
    b"r": _by_index(Machine.put, "<I"),
    b"\x94": lambda machine: machine.put(len(machine.memo)),
    b"c": _global,
    b"\x93": lambda machine: machine.find(*machine.take(2)),
    b"i": _instance,
    b"R": lambda machine: machine.call(*machine.take(2)),
    b"b": Machine.build,
    b"P": _outside,
    b"Q": _outside,
    b"\x97": _outside,
    b"\x98": _outside,
}
