"""A people file for tests: everything that one can hold."""

PEOPLE = """\
version: 1
timezone: Europe/Berlin
people:
  alice:
    name: Alex Kim
    slack: [T01/U02, T09/U11]
    email: Alice@example.com
    oidc: 00u1a2b3
    local: alice
    roles: [cfo]
    away: {from: 2026-12-21, until: 2027-01-03, substitute: bob}
  bob: {name: Alex Kim, slack: T01/U03, email: bob@example.com, local: bob}
  carol: {slack: T01/U04, email: carol@example.com, roles: [auditor, on-call]}
  nightly: {local: nightly, service: true, roles: [cfo]}
groups:
  finance: [alice, bob]
  payments: [group:finance, role:on-call, nightly]
  nobody: []
coordinators: [carol]
"""
