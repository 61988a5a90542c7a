"""Whatever is wrong: one line on stderr that says what and how to mend it, exit 2, nothing on stdout, nothing changed."""

import os
import re
import sqlite3
import subprocess
import sys

import pytest

import governor_agents.cli.app as app_module
from governor_agents.cli.opening import Place
from governor_agents.errors import ConfigError

ARGS = '{"order": "4711", "amount": 5}'


def refused(told, pattern: str) -> None:
    assert told.code == 2
    assert told.out == ""
    assert re.search(pattern, told.err), told.err
    assert told.err.startswith("governor-agents: ") and told.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        ("frob", r"No such command 'frob'.*\(see governor-agents --help\)"),
        ("--frob", r"--frob.*\(see governor-agents --help\)"),
        ("inbox list --people x", r"--people stands before the command: governor-agents --people FILE inbox list"),
        ("people check --debug", r"--debug stands before the command: governor-agents --debug people check"),
        ("inbox list --peple x", r"No such option.*--peple"),
        ("inbox frob", r"'frob'.*\(see governor-agents inbox --help\)"),
        ("inbox approve", r"Missing argument 'ID'.*\(see governor-agents inbox approve --help\)"),
        ("inbox approve ID --by cfo", r"--by"),
        ("inbox approve ID --reason TEXT", r"'--reason': TEXT stands for your own words"),
        ("inbox reject ID --reason TEXT", r"TEXT stands for your own words"),
        ("runs cancel RUN --reason TEXT", r"TEXT stands for your own words"),
        ("runs repair RUN --reason TEXT", r"TEXT stands for your own words"),
        ("runs resolve RUN 1 --happened --evidence TEXT", r"'--evidence': TEXT stands for your own words"),
        ("halt everything --reason TEXT", r"TEXT stands for your own words"),
        ("inbox list --tenant=", r"'--tenant': a tenant has a name"),
        ("--tenant= inbox list", r"'--tenant': a tenant has a name"),
        ("inbox approve nope", r"no approval nope: an approval's id is a run's id, a dot and a number"),
        ("inbox approve run_none.1", r"no approval run_none\.1 \(in tenant default, store sqlite:.*governor\.db\)"),
        ("inbox show run_none.99999999999", r"no approval"),
        ("inbox reject RUN.2", r"no approval run_\w+\.2"),
        ("inbox respond ID", r"Missing argument 'ANSWER'"),
        ("inbox edit ID", r"--args JSON or with --args-file FILE"),
        ("inbox edit ID --args {} --args-file x", r"--args JSON or with --args-file FILE"),
        ("inbox edit ID --args {oops", r"arguments are not plain JSON: .*line 1 column 2"),
        ('inbox edit ID --args {"a":1,"a":2}', r"the key 'a' stands twice"),
        ('inbox edit ID --args {"a":NaN}', r"NaN is not a JSON number"),
        ('inbox edit ID --args {"a":"\\ud800"}', r"lone surrogate"),
        ("inbox edit ID --args [1]", r"must be a JSON object"),
        ("inbox edit ID --args-file none.json", r"none\.json cannot be read: No such file"),
        ("inbox edit ID --args-file bad.json", r"bad\.json: arguments are not plain JSON"),
        ("inbox edit ID --args {} --policy none.yaml", r"none\.yaml"),
        ("inbox edit ID --args {} --policy broken.yaml", r"broken\.yaml:4"),
        ("inbox edit ID --args {} --policy unknown.yaml", r"unknown\.yaml:2: unknown key 'rulez'"),
        ("inbox edit ID --args {} --policy cel.yaml", r"cel\.yaml:3"),
        ("inbox edit ID --args {} --app app:fleet2", r"app:fleet2: .*no attribute 'fleet2'"),
        ("inbox list --limit 0", r"--limit"),
        ("runs show run_none", r"no run run_none \(in tenant default"),
        ("runs timeline run_none", r"no run run_none"),
        ("runs timeline RUN --format pdf", r"'pdf' is not one of 'text', 'mermaid', 'svg', 'html'"),
        ("runs cancel run_none", r"no run run_none"),
        ("runs list --state frob", r"'frob' is not one of 'queued'"),
        ("--store memory:// inbox list", r"memory:// lives inside one process.*--store URL"),
        ("--store nope inbox list", r"'nope' has no scheme; a store URL looks like sqlite:///governor\.db"),
        ("--store nope://x inbox list", r"no store is called nope://; known schemes: memory, .*sqlite"),
        ("--store sqlite:///none.db inbox list", r"there is no store at .*none\.db; .*--store URL or \$GOVERNOR_STORE"),
        ("--store sqlite:///none/none.db runs list", r"there is no store at .*none/none\.db"),
        ("--store sqlite:///folder runs list", r"folder"),
        ("--store sqlite:///bad.json runs list", r"bad\.json: is not a SQLite database"),
        ("--store sqlite:///newer.db inbox list", r"newer\.db: schema version 999 is newer than \d+.*upgrade"),
        ("worker app", r"app: write APP:GOVERNOR, such as app:governor"),
        ("worker none:governor", r"there is no module none in .* or on the Python path"),
        ("worker app:none", r"app:none: module 'app' has no attribute 'none'"),
        ("worker app:number", r"app:number is a int; it must be a Governor or a list of them"),
        ("worker app:private", r"app:private keeps its runs in memory://, which no other process can see"),
        (
            "worker raises:governor",
            r"raises cannot be imported: ValueError: two\\u\{000A\}lines \(.*raises\.py, line 2\)",
        ),
        ("worker needs:governor", r"needs cannot be imported: ModuleNotFoundError: No module named 'none_such'"),
        ("worker policy:governor", r"unknown\.yaml:2: unknown key 'rulez'"),
        ("worker app:governor --concurrency 0", r"--concurrency"),
        ("demo --framework none", r"'none' is not one of 'openai-agents', 'langchain', 'all'"),
        ("demo --decide none", r"'none' is not one of 'approve', 'reject', 'edit', 'ask'"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(shop, words: str, pattern: str) -> None:
    id = shop.ask()
    files = {
        "bad.json": "{oops\n",
        "broken.yaml": "version: 1\nrules:\n  - {name: [\n",
        "unknown.yaml": "version: 1\nrulez: []\n",
        "cel.yaml": "version: 1\nrules:\n  - {name: a, tool: b, when: call.args.x > 'y' +, then: deny}\n",
        "raises.py": "x = 1\nraise ValueError('two\\nlines')\n",
        "needs.py": "import none_such\n",
        "policy.py": "from governor_agents import Governor\ngovernor = Governor.from_file('unknown.yaml')\n",
    }
    for name, text in files.items():
        (shop.folder / name).write_text(text)
    (shop.folder / "folder").mkdir()
    newer_store(shop)
    before = shop("inbox", "show", id, "--json").out
    present = set(os.listdir())
    refused(
        shop(*[{"ID": id, "RUN": id[:-2], "RUN.2": f"{id[:-2]}.2"}.get(word, word) for word in split(words)]), pattern
    )
    assert shop("inbox", "show", id, "--json").out == before
    assert {name for name in set(os.listdir()) - present if not name.startswith("newer.db")} <= {"__pycache__"}


def split(words: str) -> list[str]:
    return re.findall(r"\{.*\}|\S+", words)


def newer_store(shop) -> None:
    """A copy of the store, as a version of the far future would leave it."""
    with sqlite3.connect("governor.db") as here, sqlite3.connect("newer.db") as copy:
        here.backup(copy)
        tables = [name for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [row[1] for row in copy.execute(f"PRAGMA table_info({table})")]
            if "version" in columns:
                copy.execute(f"UPDATE {table} SET version = 999 WHERE version = (SELECT max(version) FROM {table})")
            elif {"name", "value"} <= set(columns):
                copy.execute(f"UPDATE {table} SET value = 999 WHERE name LIKE '%schema%' OR name LIKE '%version%'")
    for connection in (here, copy):
        connection.close()


def test_reading_makes_no_store(shop) -> None:
    """A command in the wrong folder must not leave an empty database there."""
    refused(shop("inbox", "list"), "there is no store at")
    assert not (shop.folder / "governor.db").exists()


def test_unexpected_error_is_one_line_and_debug_shows_where(shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.ask()

    def broken(_: Place) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(Place, "check", broken)
    refused(shop("inbox", "list"), r"RuntimeError: two\\u\{000A\}lines \(governor-agents --debug COMMAND shows where\)")
    told = shop("--debug", "inbox", "list")
    assert told.code == 2 and "Traceback" in told.err and "in broken" in told.err


def test_missing_framework_is_one_line(shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langgraph", None)
    monkeypatch.setitem(sys.modules, "langchain", None)
    refused(shop("demo", "--framework", "langchain"), r"pip install 'governor-agents\[demo\]'")


def test_store_that_cannot_be_written_is_one_line(shop) -> None:
    """Permission bits do not bind root, so the write-ahead log is put out of reach in a way that binds everybody."""
    id = shop.ask()
    for file in shop.folder.glob("governor.db-*"):
        file.unlink()
    (shop.folder / "governor.db-wal").mkdir()
    refused(shop("inbox", "approve", id), r"governor\.db")


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_one_line_says_what_to_install(shop, missing: str) -> None:
    """The console script is installed with the core; typer and rich are not."""
    code = f"import sys; sys.modules[{missing!r}] = None; from governor_agents.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=shop.environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"governor-agents: the command line needs {missing}: pip install 'governor-agents[cli]'\n"


def test_ctrl_c_is_130(shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(app_module, "app", interrupted)
    assert shop("inbox", "list").code == 130


def test_reader_that_leaves_is_no_error(shop) -> None:
    for _ in range(3):
        shop.ask(note="x" * 100_000)
    command = " ".join(shop.command("inbox", "list", "--json")) + " | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=shop.environment)
    assert (done.stdout, done.stderr) == ("[\n", "")


def test_output_survives_a_terminal_of_few_letters(shop) -> None:
    id = shop.ask(note="Größe 日本")
    told = shop.process("inbox", "show", id)
    assert "Größe 日本" in told.out
    shop_environment = {**shop.environment, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(shop.command("inbox", "show", id), capture_output=True, text=True, env=shop_environment)
    assert done.returncode == 0 and "Gr\\xf6\\xdfe" in done.stdout


def test_error_from_a_config_is_never_more_than_one_line(shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Place) -> None:
        raise ConfigError("a\u202eb\nc\x1b[2J")

    monkeypatch.setattr(Place, "check", broken)
    refused(shop("inbox", "list"), r"a\\u\{202E\}b\\u\{000A\}c\\u\{001B\}\[2J")
