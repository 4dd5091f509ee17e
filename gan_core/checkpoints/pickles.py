"""A pickle reader that can't run code: it supports the opcodes that data needs, and an allow-list of names.

It reads the bytes in place, copies only small values and stops after a bounded number of steps. A hostile file
therefore costs at most a multiple of its own length in memory.
"""

import struct
from collections.abc import Callable

from gan_core.checkpoints.allowed import Global, allowed, build, call, checked_key
from gan_core.checkpoints.stored import Refused

MAX_STEPS = 1_000_000
"""Opcodes that are read; it bounds the time that a hostile file can cost."""
MAX_NAME = 200
MAX_INTEGER_BYTES = 17
"""Enough for the state of numpy's PCG64, which has 128 bits and a sign; it bounds the cost of a number."""
LARGE = 1 << 16
"""Byte strings from this length on are not copied."""

Persistent = Callable[[object], object]
_DAMAGE = (TypeError, ValueError, IndexError, KeyError, OverflowError, AttributeError, struct.error)
_SIZED = str | bytes | memoryview | tuple | list | dict | set


class PickleReader:
    """Reads one pickle of ``view`` from ``position`` on. Afterwards ``position`` is the first byte after the pickle.

    ``persistent`` resolves a persistent id (a storage of a torch file) to a value. ``nested`` reads the bytes of a
    torch file inside this one. Methods that read raise ``Refused`` for anything that plain data doesn't need.
    """

    def __init__(
        self,
        view: memoryview,
        position: int = 0,
        persistent: Persistent | None = None,
        nested: Callable[[memoryview], object] | None = None,
    ) -> None:
        self.view = view
        self.position = position
        self.persistent = persistent
        self.nested = nested
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}
        self.budget = MAX_STEPS + 2 * len(view)  # protocol 2 has arrays as text, which is decoded and then copied

    def read(self) -> object:
        """Return the pickled value; raises ``Refused`` for damaged or hostile pickles."""
        try:
            return self._run()
        except _DAMAGE as error:
            text = " ".join(str(error).split())[:80]
            raise Refused(f"its pickle is damaged at byte {self.position} ({type(error).__name__}: {text})") from None

    def _run(self) -> object:
        for _ in range(MAX_STEPS):
            code = self.take(1)[0]
            if code == STOP:
                return self.stack.pop()
            step = STEPS.get(code)
            if step is None:
                raise Refused(
                    f"its pickle has the opcode 0x{code:02x} at byte {self.position - 1}, which no data needs"
                )
            step(self)
        raise Refused(f"its index takes more than {MAX_STEPS} steps to read", unsafe=True)

    def take(self, count: int) -> memoryview:
        """Return the next ``count`` bytes; raises ``Refused`` if there are fewer."""
        end = self.position + count
        if count < 0 or end > len(self.view):
            raise Refused(f"it ends {end - len(self.view)} bytes early: download it again")
        taken, self.position = self.view[self.position : end], end
        return taken

    def number(self, layout: str) -> int:
        """Return the next integer, in a layout of ``struct``; raises ``Refused`` if the data ends before."""
        value: int = struct.unpack(layout, self.take(struct.calcsize(layout)))[0]
        return value

    def double(self) -> None:
        """Push the next eight bytes as a big-endian float."""
        self.push(struct.unpack(">d", self.take(8))[0])

    def line(self) -> str:
        """Return the text up to the end of the line; raises ``Refused`` if it is longer than ``MAX_NAME``."""
        rest = bytes(self.view[self.position : self.position + MAX_NAME])
        text, end, _ = rest.partition(b"\n")
        if not end:
            raise Refused("it mentions a name that doesn't end")
        self.position += len(text) + 1
        return text.decode("utf-8")

    def push(self, value: object) -> None:
        """Push a value onto the stack."""
        self.stack.append(value)

    def above_mark(self) -> list[object]:
        """Pop all values above the last mark."""
        mark = self.marks.pop()
        values, self.stack[mark:] = self.stack[mark:], []
        return values

    def text(self, layout: str) -> None:
        """Push a string that is preceded by its length."""
        self.push(str(self.take(self.number(layout)), "utf-8", "surrogatepass"))

    def data(self, layout: str) -> None:
        """Push bytes that are preceded by their length; long ones are not copied."""
        taken = self.take(self.number(layout))
        self.push(taken if len(taken) >= LARGE else bytes(taken))

    def old_text(self, layout: str) -> None:
        """Push a string of Python 2 that is preceded by its length."""
        self.push(str(self.take(self.number(layout)), "latin-1"))

    def integer(self, layout: str) -> None:
        """Push an integer that is preceded by its number of bytes; raises ``Refused`` if it is too long."""
        length = self.number(layout)
        if not 0 <= length <= MAX_INTEGER_BYTES:
            raise Refused(f"it has a number of {length} bytes", unsafe=True)
        self.push(int.from_bytes(self.take(length), "little", signed=True))

    def remember(self, index: int) -> None:
        """Store the top of the stack in the memo."""
        self.memo[index] = self.stack[-1]

    def set_items(self, pairs: list[object]) -> None:
        """Add alternating keys and values to the dictionary on top of the stack; raises ``Refused`` if it is none."""
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise Refused(f"it sets items of a {type(target).__name__}", unsafe=True)
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            target[checked_key(key)] = value

    def append(self, values: list[object]) -> None:
        """Extend the list on top of the stack; raises ``Refused`` if it is none."""
        target = self.stack[-1]
        if not isinstance(target, list):
            raise Refused(f"it appends to a {type(target).__name__}", unsafe=True)
        target.extend(values)

    def add(self, values: list[object]) -> None:
        """Add values to the set on top of the stack; raises ``Refused`` if it is none."""
        target = self.stack[-1]
        if not isinstance(target, set):
            raise Refused(f"it adds to a {type(target).__name__}", unsafe=True)
        target.update(checked_key(value) for value in values)

    def mention(self, module: object, name: object) -> None:
        """Push a name; raises ``Refused`` if it is not on the allow-list."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise Refused("it mentions a name that is not text", unsafe=True)
        self.push(NESTED if (module, name) == NESTED_NAME else allowed(f"{module}.{name}"))

    def reduce(self) -> None:
        """Replace a name and its arguments by the result of the name's replacement; raises ``Refused``."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise Refused(f"it calls a {type(function).__name__}", unsafe=True)
        self.spend((arguments, *arguments))
        if function is NESTED:
            (data,) = arguments
            if self.nested is None:
                raise Refused("it has a file inside a file inside a file", unsafe=True)
            self.push(self.nested(memoryview(data)))
        else:
            self.push(call(function, arguments))

    def assign(self) -> None:
        """Pop attributes and set them on the object that is then on top of the stack."""
        state = self.stack.pop()
        self.spend((state, *state) if isinstance(state, tuple) else (state,))
        build(self.stack[-1], state)

    def place(self) -> None:
        """Replace a persistent id by the value it refers to; raises ``Refused`` if there can be none."""
        if self.persistent is None:
            raise Refused("it refers to data outside of itself")
        self.push(self.persistent(self.stack.pop()))

    def spend(self, values: tuple[object, ...]) -> None:
        """Count the values that a call may copy; raises ``Refused`` if a pickle copies long values again and again."""
        self.budget -= sum(len(value) for value in values if isinstance(value, _SIZED))
        if self.budget < 0:
            raise Refused("it copies its own values over and over", unsafe=True)

    def mark(self) -> None:
        """Mark the top of the stack."""
        self.marks.append(len(self.stack))

    def tuple_of(self, count: int) -> None:
        """Replace the top ``count`` values by a tuple of them; raises ``Refused`` if there are fewer."""
        values = tuple(self.stack[len(self.stack) - count :])
        if len(values) != count:
            raise Refused("its pickle is damaged")
        del self.stack[len(self.stack) - count :]
        self.push(values)


NESTED_NAME = ("torch.storage", "_load_from_bytes")
NESTED = Global(".".join(NESTED_NAME))
STOP = ord(".")


def _dictionary(reader: PickleReader) -> None:
    values = reader.above_mark()
    reader.push({})
    reader.set_items(values)


def _set(reader: PickleReader) -> None:
    values = reader.above_mark()
    reader.push(set())
    reader.add(values)


def _global_from_stack(reader: PickleReader) -> None:
    name, module = reader.stack.pop(), reader.stack.pop()
    reader.mention(module, name)


def _duplicate(reader: PickleReader) -> None:
    reader.push(reader.stack[-1])


def _drop_frame(reader: PickleReader) -> None:
    if reader.number("<Q") > len(reader.view) - reader.position:
        raise Refused("it ends early: download it again")


STEPS: dict[int, Callable[[PickleReader], object]] = {
    0x80: lambda r: r.take(1),  # PROTO
    0x95: _drop_frame,  # FRAME, which only helps readers of streams
    ord("N"): lambda r: r.push(None),
    0x88: lambda r: r.push(True),
    0x89: lambda r: r.push(False),
    ord("J"): lambda r: r.push(r.number("<i")),
    ord("K"): lambda r: r.push(r.number("<B")),
    ord("M"): lambda r: r.push(r.number("<H")),
    ord("G"): PickleReader.double,
    0x8A: lambda r: r.integer("<B"),
    0x8B: lambda r: r.integer("<i"),
    0x8C: lambda r: r.text("<B"),
    ord("X"): lambda r: r.text("<I"),
    0x8D: lambda r: r.text("<Q"),
    ord("U"): lambda r: r.old_text("<B"),
    ord("T"): lambda r: r.old_text("<i"),
    ord("C"): lambda r: r.data("<B"),
    ord("B"): lambda r: r.data("<I"),
    0x8E: lambda r: r.data("<Q"),
    0x96: lambda r: r.data("<Q"),
    ord("]"): lambda r: r.push([]),
    ord("}"): lambda r: r.push({}),
    ord(")"): lambda r: r.push(()),
    0x8F: lambda r: r.push(set()),
    ord("("): PickleReader.mark,
    ord("0"): lambda r: r.stack.pop(),
    ord("1"): PickleReader.above_mark,
    ord("2"): _duplicate,
    ord("l"): lambda r: r.push(r.above_mark()),
    ord("t"): lambda r: r.push(tuple(r.above_mark())),
    0x85: lambda r: r.tuple_of(1),
    0x86: lambda r: r.tuple_of(2),
    0x87: lambda r: r.tuple_of(3),
    ord("d"): _dictionary,
    0x91: _set,
    ord("a"): lambda r: r.append([r.stack.pop()]),
    ord("e"): lambda r: r.append(r.above_mark()),
    ord("s"): lambda r: r.set_items([r.stack.pop(-2), r.stack.pop()]),
    ord("u"): lambda r: r.set_items(r.above_mark()),
    0x90: lambda r: r.add(r.above_mark()),
    ord("q"): lambda r: r.remember(r.number("<B")),
    ord("r"): lambda r: r.remember(r.number("<I")),
    0x94: lambda r: r.remember(len(r.memo)),
    ord("h"): lambda r: r.push(r.memo[r.number("<B")]),
    ord("j"): lambda r: r.push(r.memo[r.number("<I")]),
    ord("c"): lambda r: r.mention(r.line(), r.line()),
    0x93: _global_from_stack,
    ord("R"): PickleReader.reduce,
    0x81: PickleReader.reduce,  # NEWOBJ: a class and its arguments
    ord("b"): PickleReader.assign,
    ord("Q"): PickleReader.place,
}
