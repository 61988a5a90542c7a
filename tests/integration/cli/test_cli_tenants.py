"""Another tenant's id, typed at the command line: the same words and exit code as for an id that nobody has."""

import pytest

COMMANDS = [
    "inbox show ID",
    "inbox approve ID",
    "inbox reject ID",
    "inbox respond ID done",
    "inbox edit ID --args {}",
    "runs show RUN",
    "runs show RUN --json",
    "runs timeline RUN",
    "runs timeline RUN --format mermaid",
    "runs cancel RUN",
    "runs resolve RUN 1 --abandon --evidence seen",
    "runs repair RUN --reason mended",
    "audit list RUN",
    "audit list RUN --json",
    "audit export",
    "inbox list --json",
    "runs list --json",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_another_tenants_id_is_like_an_unknown_one(shop, command: str) -> None:
    """Each command that takes an id, and each that lists; and what was asked about stays as it was."""
    approval = shop.ask(tenant="a:b", note="secret")
    run = approval.rpartition(".")[0]
    before = shop("--tenant", "a:b", "runs", "show", run, "--json").json
    unknown = "run_" + "a" * (len(run) - 4)
    told = []
    for each in (run, unknown):
        words = [{"ID": f"{each}.1", "RUN": each}.get(word, word) for word in command.split()]
        said = shop("--tenant", "a", *words)
        told.append((said.code, said.out.replace(each, "RUN"), said.err.replace(each, "RUN")))
    asks = "ID" in command or "RUN" in command
    assert [code for code, _, _ in told] == [2, 2] if asks else [0, 0]
    assert told[0] == told[1]
    assert "secret" not in str(told) and approval not in str(told)
    assert shop("--tenant", "a:b", "runs", "show", run, "--json").json == before


def test_its_own_tenant_finds_it(shop) -> None:
    """The control."""
    approval = shop.ask(tenant="a:b", note="secret")
    assert "secret" in shop("--tenant", "a:b", "inbox", "show", approval).out
