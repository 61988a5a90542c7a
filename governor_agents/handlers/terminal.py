"""The terminal as an approval channel: print the request with the commands that decide it, or ask in place.

Whoever sits at a terminal is who the operating system says (`local_person`). Nothing of a request reaches the terminal
unless it has been through `visible`, so no text in it can move the cursor, clear the screen or hide.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from governor_agents.core.calls import freeze_text, thaw
from governor_agents.core.channels import Desk
from governor_agents.core.records import Approval, Decision
from governor_agents.errors import ArgumentsError, MissingExtra
from governor_agents.handlers.message import Message, to_text, visible
from governor_agents.handlers.words import Commands

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

NARROW = 60
"""Columns under which two columns side by side have no room."""

MANY = 1000
"""More arguments than this are not laid out: measuring every cell would take minutes."""

CHOICES = ("approve", "reject", "edit", "respond", "skip")


def local_person() -> str:
    """Who runs this process, as approvers are named: ``local:<os user>``.

    Asks the system by the process's real user id. The environment ($USER, $LOGNAME) is not asked: anybody can set it.
    """
    import pwd

    uid = os.getuid()
    try:
        return f"local:{pwd.getpwuid(uid).pw_name}"
    except KeyError:  # a container may run under an id that has no name
        return f"local:uid:{uid}"


class TerminalHandler:
    """Prints requests and outcomes, to stderr unless a stream is given; decisions come in by the command line.

    ``store`` goes into the printed commands; leave it empty where ``$GOVERNOR_STORE`` or the default says it.
    """

    name = "terminal"
    keeps_cards = False

    def __init__(self, stream: TextIO | None = None, *, store: str = "") -> None:
        self._stream = stream
        self._store = store

    async def start(self, desk: Desk) -> None:
        """A terminal needs nothing."""

    async def close(self) -> None:
        """The stream stays the caller's."""

    async def notify(self, approval: Approval, to: str = "") -> str:
        """Print the whole request and how to decide it; what is decided already, as `update` does. Keeps no card."""
        message = Message.of(approval)
        if not message.waits:
            await self.update(approval, "", to)
            return ""
        commands = Commands(self._store, approval.run.tenant).deciding(message, approval.id)
        self._print("\n" + to_text(message) + "\ndecide:\n" + "".join(f"  {line}\n" for line in commands))
        return ""

    async def update(self, approval: Approval, card: str, to: str = "") -> None:
        """Print what became of it."""
        message = Message.of(approval)
        self._print(f"{message.id} {message.tool} is {message.state}: {message.outcome}\n")

    def _print(self, text: str) -> None:
        stream = self._stream or sys.stderr
        stream.write(text)
        stream.flush()


def print_message(console: Console, message: Message) -> None:
    """Show the whole message: laid out on a terminal; plain and unwrapped in a pipe or a very narrow window.

    Everything is `Text`, in which rich finds no markup. The canonical JSON is left to the terminal to wrap, so that
    what is selected and copied there is exact.
    """
    if not console.is_terminal or console.width < NARROW:
        console.file.write(to_text(message))
        return
    from rich.text import Text

    console.print(Text(message.headline, style="bold"))
    console.print(_grid(message.facts(), "dim"))
    if message.arguments:
        console.print(Text("arguments", style="dim"))
    if len(message.arguments) > MANY:
        console.file.write("".join(f"  {line}\n" for line in message.arguments) + "\n")
    elif message.arguments:
        console.print(_grid(((line.path, line.value) for line in message.arguments), "bold"))
    blocks = [("arguments as canonical JSON", [message.args])]
    if message.asked_args:
        blocks += [("edited by a person", [str(line) for line in message.rewritten])]
        blocks += [("what the agent had asked for", [message.asked_args])]
    for title, lines in blocks:
        console.print(Text(title, style="dim"))
        for line in lines:
            console.print(Text(line), soft_wrap=True)
        console.print()


def _grid(rows: Iterable[tuple[str, str]], label_style: str) -> RenderableType:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(overflow="fold", max_width=32)
    grid.add_column(overflow="fold")
    for label, text in rows:
        grid.add_row(Text(label, style=label_style), Text(text))
    return Padding(grid, (0, 0, 1, 2))


def ask_in_place(approval: Approval, *, stdin: TextIO | None = None, stdout: TextIO | None = None) -> Decision | None:
    """Show the request and ask the person at the terminal. None when nothing was decided: skip, end of input, Ctrl-C.

    An edit opens ``$VISUAL`` or ``$EDITOR`` when there is a terminal and one is set, else it takes JSON on one line.
    Raises `MissingExtra` without rich.
    """
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        raise MissingExtra("asking at the terminal needs rich: pip install 'governor-agents[cli]'") from None
    source, sink = stdin or sys.stdin, stdout or sys.stdout
    print_message(Console(file=sink), Message.of(approval))
    try:
        return _Asking(approval, source, sink).decision()
    except (EOFError, KeyboardInterrupt):
        sink.write("\nnothing was decided\n")
        return None


class _Asking:
    """One dialogue about one request."""

    def __init__(self, approval: Approval, source: TextIO, sink: TextIO) -> None:
        self._approval = approval
        self._source = source
        self._sink = sink

    def decision(self) -> Decision | None:
        asked = {"approve": self._approve, "reject": self._reject, "edit": self._edit, "respond": self._respond}
        while True:
            said = self._line(f"{', '.join(CHOICES)}? ").lower()
            fits = [choice for choice in CHOICES if said and choice.startswith(said)]
            if len(fits) != 1:
                self._say(f"{' or '.join(fits)}?" if fits else "that is not one of them; their first letters will do")
                continue
            if fits[0] == "skip":
                return None
            made = asked[fits[0]]()
            if made is not None:
                return made

    def _approve(self) -> Decision | None:
        return Decision.approve(self._reason())

    def _reject(self) -> Decision | None:
        return Decision.reject(self._reason())

    def _respond(self) -> Decision | None:
        answer = self._insist("the answer that the agent gets in the tool's place: ")
        return Decision.respond(answer, self._reason())

    def _edit(self) -> Decision | None:
        """New arguments that are JSON and differ; None to go back to the choices."""
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
        in_editor = bool(editor) and self._source.isatty()
        # Whatever cannot be seen stands in the draft as \uXXXX.
        draft = json.dumps(thaw(self._approval.call.args), indent=2, ensure_ascii=True) + "\n"
        while True:
            if in_editor:
                draft = self._from_editor(editor, draft)
            else:
                draft = self._line("new arguments as JSON on one line (nothing to go back): ")
            if not draft.strip():
                return None
            problem, args = self._check(draft)
            if not problem:
                return Decision.edit(args, self._reason())
            self._say(problem)
            if in_editor and self._line("Enter opens the editor again, anything else goes back: "):
                return None

    def _check(self, draft: str) -> tuple[str, bytes]:
        try:
            args = freeze_text(draft)
        except ArgumentsError as error:
            return visible(str(error)), b""
        if not args.startswith(b"{"):
            return 'the arguments must be one JSON object, such as {"amount": 5}', b""
        if args == self._approval.call.args:
            return "these are the arguments that it has; nothing was edited", b""
        return "", args

    def _from_editor(self, editor: str, draft: str) -> str:
        """What the person's editor made of the draft; empty when it did not work."""
        with tempfile.TemporaryDirectory(prefix="governor-agents-") as folder:
            file = Path(folder) / "arguments.json"
            file.write_text(draft, "utf-8")
            try:
                subprocess.run([*shlex.split(editor), str(file)], check=True)
                return file.read_text("utf-8")
            except (OSError, ValueError, subprocess.CalledProcessError) as error:
                self._say(f"the editor did not work: {visible(str(error))}")
                return ""

    def _reason(self) -> str:
        if self._approval.call.reason_required:
            return self._insist("reason (the policy asks for one): ")
        return self._line("reason (Enter for none): ")

    def _insist(self, prompt: str) -> str:
        while not (said := self._line(prompt)):
            pass
        return said

    def _line(self, prompt: str) -> str:
        if self._source is sys.stdin and self._sink is sys.stdout and self._source.isatty():
            return input(prompt).strip()  # with the line editing that the terminal's user is used to
        self._sink.write(prompt)
        self._sink.flush()
        line = self._source.readline()
        if not line:
            raise EOFError
        return line.strip()

    def _say(self, text: str) -> None:
        self._sink.write(text + "\n")
