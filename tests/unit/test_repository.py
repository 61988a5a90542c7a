"""Rules about the files of the repository that no linter holds."""

import ast
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from governor_agents.stores import BUILT_IN

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "governor_agents"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODULES = sorted(PACKAGE.rglob("*.py"))

LOCK_FILES = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml"}
# Pickle and its kin run code when they read; everything stored here is JSON.
UNSAFE_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "joblib"}
UNSAFE_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "yaml.load",
    "yaml.load_all",
    "yaml.unsafe_load",
    "yaml.full_load",
}
CLOCKS = {"now", "utcnow", "today"}


def repository_files() -> list[Path]:
    """Every file that is tracked, or would be by `git add --all`."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


def offences(pattern: str) -> list[str]:
    """`file:line: text` for each match of the pattern in the text files of the repository."""
    compiled = re.compile(pattern, re.IGNORECASE)
    found = []
    for path in repository_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if compiled.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    return found


def dotted(node: ast.expr) -> str:
    """`yaml.load` for the expression that says so; an empty string for what is no dotted name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := dotted(node.value)):
        return f"{owner}.{node.attr}"
    return ""


def calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node.lineno


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno


def reading_code(tree: ast.AST) -> list[tuple[str, int]]:
    """Where data would be run as code: name and line."""
    found = [(name, line) for name, line in imports(tree) if name.split(".")[0] in UNSAFE_MODULES]
    return found + [(name, line) for name, line in calls(tree) if name in UNSAFE_CALLS]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def test_lock_files_are_not_tracked() -> None:
    """A lock file records the download addresses of one machine's registry."""
    assert [path.name for path in repository_files() if path.name in LOCK_FILES] == []


def test_files_name_no_download_address() -> None:
    """Where packages come from is the business of the machine that installs them."""
    assert offences(r"https?://\S+\.(?:whl|tar\.gz|tgz)\b") == []
    assert offences(r"index[-_]url\b|find[-_]links\b|--registry[ =]") == []
    assert offences(r"\bpyp[i]\.org|pythonhoste[d]\.org|registry\.npmj[s]|npmj[s]\.org|registry\.yarnpk[g]") == []


def test_files_name_no_home_directory() -> None:
    """A path of one machine helps nobody on another."""
    assert offences(r"(?<![\w.])/(?:home|root|Users)/\w") == []


def test_wheel_holds_all_of_the_package() -> None:
    """SQL, templates and `py.typed` travel with the modules; an ignore rule may not drop one."""
    shipped = {Path(file.path) for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    present = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert present - shipped == set()
    assert PACKAGE / "py.typed" in shipped


def test_demo_extra_brings_the_command_line_both_frameworks_and_the_channels() -> None:
    extras = PROJECT["optional-dependencies"]
    own = "governor-agents[cli,email,keys,langchain,openai-agents,server,slack]"
    assert [one for one in extras["demo"] if not one.startswith("aiosmtpd")] == [own]
    assert {
        "agentdojo",
        "all",
        "bench",
        "cli",
        "demo",
        "dev",
        "langchain",
        "notebook",
        "openai-agents",
        "testing",
    } <= set(extras)


def test_core_dependencies_stay_few() -> None:
    """A user who wraps one tool must not pull in a framework or a web server."""
    names = {re.split(r"[^\w.-]", requirement)[0].lower() for requirement in PROJECT["dependencies"]}
    assert names <= {"anyio", "common-expression-language", "pydantic", "pyyaml", "typing-extensions"}


@pytest.mark.parametrize(
    "entry_point",
    [
        pytest.param(EntryPoint(name, target, group), id=f"{group}:{name}")
        for group, entries in PROJECT["entry-points"].items()
        for name, target in entries.items()
    ],
)
def test_entry_point_loads(entry_point: EntryPoint) -> None:
    """Each name that pyproject gives to a plug-in leads to something."""
    assert entry_point.load() is not None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_reads_no_code_from_data(path: Path) -> None:
    """No pickle, no eval, no full YAML loader anywhere in the package."""
    assert reading_code(parse(path)) == []


SEEDED = [
    "import pickle",
    "from marshal import loads",
    "import shelve as data",
    "def f():\n    from dill import load",
    "import yaml\nyaml.load(text, Loader=yaml.Loader)",
    "eval(text)",
    "x = [exec(line) for line in lines]",
    "compile(text, 'x', 'exec')",
    "__import__(name)",
]


@pytest.mark.parametrize("source", SEEDED)
def test_the_control_code_from_data_is_found(source: str) -> None:
    """Each of them would be seen wherever it stood; what only looks like it is not."""
    assert len(reading_code(ast.parse(source))) == 1
    assert reading_code(ast.parse("import re, yaml\nre.compile(x)\nyaml.safe_load(x)\nself.eval(x)")) == []


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").rglob("*.py")), ids=lambda path: path.name)
def test_core_reads_no_clock_and_no_file(path: Path) -> None:
    """Time, bytes and randomness come into the core as arguments; import-linter holds the modules, this the calls."""
    suspect = [(name, line) for name, line in calls(parse(path)) if name == "open" or name.split(".")[-1] in CLOCKS]
    assert suspect == []


def chosen_by_kind(tree: ast.AST) -> Iterator[int]:
    """The lines where code outside of `stores` asks what kind of store it has: by scheme, or by a driver's module."""
    schemes = {f"{scheme}{end}" for scheme in BUILT_IN for end in ("", ":", "://")}
    drivers = {target.partition(":")[0] for target in BUILT_IN.values()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in schemes:
            yield node.lineno
        named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if any(name.startswith(driver) for name in named for driver in drivers):
            yield getattr(node, "lineno", 0)


def test_only_stores_know_what_kind_of_store_it_is() -> None:
    """A new driver is one place and one entry point: nothing else names a scheme or imports a driver."""
    elsewhere = [path for path in MODULES if path.relative_to(PACKAGE).parts[0] not in ("stores", "testing")]
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in elsewhere
        for line in chosen_by_kind(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set()


@pytest.mark.parametrize(
    "code",
    [
        'if url.partition("://")[0] == "sqlite": pass',
        'match scheme:\n    case "memory": pass',
        'url.startswith("sqlite:")',
        'kinds = {"sqlite": 1}',
        "from governor_agents.stores.sqlite import SQLiteStore",
        "import governor_agents.stores.memory",
    ],
)
def test_what_asks_for_the_kind_of_store_is_found(code: str) -> None:
    """The control of the rule above."""
    assert list(chosen_by_kind(ast.parse(code)))
