"""Judge the report of `basedpyright --verifytypes --outputjson` on stdin: no public symbol of unknown type, and a floor
for the share that is typed beyond doubt.

What names langgraph's generic graph class is unknown to this judge, though mypy resolves it. Those symbols, and only
those, are let off.

A symbol is in doubt ("ambiguous") when its type is inferred, as for `run_sync = twin(run)`. Writing such a type down
would lose the parameters it carries, so doubt is counted and not forbidden.
"""

import json
import sys

floor = float(sys.argv[1])
report = json.load(sys.stdin)["typeCompleteness"]
if not report.get("pyTypedPath"):
    sys.exit("public types: no py.typed found; is governor_agents installed in this environment?")
counts, score = report["exportedSymbolCounts"], report["completenessScore"]
UNTYPED = "governor_agents.adapters.langchain"
unknown = [
    symbol
    for symbol in report["symbols"]
    if symbol["isExported"] and not symbol["isTypeKnown"] and not symbol["name"].startswith(UNTYPED)
]

unknown = [symbol for symbol in unknown if not symbol.get("isTypeAmbiguous")]
for symbol in unknown:
    for finding in symbol["diagnostics"] or [{"message": "a type it stands on is unknown"}]:
        line = f":{finding['range']['start']['line'] + 1}" if "range" in finding else ""
        print(f"{finding.get('file', '')}{line} {symbol['name']}: {finding['message'].splitlines()[0]}".strip())
print(
    f"public types: {score:.1%} beyond doubt (floor {floor:.0%}), "
    f"{counts['withAmbiguousType']} inferred, {len(unknown)} unknown"
)
sys.exit(bool(unknown) or score < floor)
