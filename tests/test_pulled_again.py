"""Pulls that follow each other into one lake: late lines wherever they hide, other rules, lines that Loki takes for odd."""

from __future__ import annotations

import socket
from collections import Counter
from pathlib import Path
from urllib.parse import urlencode

import pytest

from pipeline import catalog
from pipeline.lake.store import Store
from pipeline.model import Window
from pipeline.steps.told import extracts
from pipeline.telling import rules_of
from tests import corpus
from tests.command import aislot
from tests.faults import Asked
from tests.proxy import Proxy, between, is_lines
from tests.servers.run import LokiServer
from tests.traps import DAY, HOUR, MINUTE, MS, SECOND, START, Line, Puller, app, push, trace

pytestmark = [pytest.mark.live, pytest.mark.command]
MIDNIGHT = START // DAY * DAY
RULE = """
[[redaction]]
id = "customer"
pattern = 'CUST-[0-9]{6}'
hint = 'CUST-'
examples = ["id CUST-123456"]
counter_examples = ["CUST"]
"""
SETTINGS = '[catalogue]\nfiles = ["mine.toml"]\n'
CUSTOMER = "CUST-123456"


def a_minute_apart(server: LokiServer, namespace: str, hours: int = 2) -> Counter[Line]:
    return push(server, namespace, [Line(START + n * MINUTE, f"{n}", app("a")) for n in range(60 * hours)])


def test_a_late_line_at_the_hour_is_found_though_the_hour_before_was_pulled_meanwhile(
    loki_server: LokiServer, tmp_path: Path
) -> None:
    pushed = a_minute_apart(loki_server, "edge")
    puller = Puller(tmp_path, loki_server.url, "edge")
    puller.pull(START, START + 2 * HOUR).check_all(pushed)
    pushed += push(loki_server, "edge", [Line(START + HOUR, "late", app("b"))])
    puller.pull(START, START + HOUR)  # counts it, and has no place for it
    puller.pull(START, START + 2 * HOUR).check_all(pushed)


def test_what_tells_something_is_kept_beside_each_hour_as_it_is_written(
    loki_server: LokiServer, tmp_path: Path
) -> None:
    said = [Line(START + n * MINUTE, f"level=error msg=tick-{n}", app("a")) for n in range(120)]
    pushed = push(loki_server, "told", [*said, Line(START + 1, "quiet", app("b"))])
    puller = Puller(tmp_path, loki_server.url, "told")
    puller.pull(START, START + 2 * HOUR).check_all(pushed)
    store, rules = Store(str(tmp_path / "lake")), catalog.load()
    kept = extracts(store)

    def lines(hour: Window) -> int:
        content = kept.content(hour)
        found = content and kept.read(hour, content, rules_of(rules.job_kinds, rules.phrases))
        assert found
        return int(found.rows["lines"].num_rows)

    hours = list(Window(START, START + 2 * HOUR).cells(HOUR))
    assert [lines(h) for h in hours] == [60, 60]
    pushed += push(loki_server, "told", [Line(START + HOUR + SECOND, "level=error msg=late", app("b"))])
    puller.pull(START, START + 2 * HOUR).check_all(pushed)
    assert [lines(h) for h in hours] == [60, 61]


def test_late_lines_are_found_where_as_many_have_gone(loki_server: LokiServer, tmp_path: Path) -> None:
    gone = [Line(START + SECOND + n, f"old {n}", (*app("a"), ("pod", "gone"))) for n in range(5)]
    old = push(loki_server, "swap", [Line(START + SECOND + 9, "stays", app("a")), *gone])
    hidden: list[bool] = []

    def without(asked: Asked, _: int) -> None:
        if hidden and "{" in asked.form.get("query", ""):
            query = asked.form["query"].replace('{namespace="swap"', '{pod!="gone", namespace="swap"')
            object.__setattr__(asked, "body", _encoded({**asked.form, "query": query}))

    with between(Proxy(loki_server.url, rate=0, hook=without)) as proxy:
        puller = Puller(tmp_path, proxy.url, "swap")
        puller.pull().check_all(old)
        hidden.append(True)
        new = push(loki_server, "swap", [Line(START + SECOND + n, f"new {n}", app("a")) for n in range(20, 23)])
        pulled = puller.pull()
    pulled.check_lines(old + new)
    assert pulled.proof("gone_from_server") == len(gone)
    assert "no longer on the server" in pulled.said


def _encoded(form: dict[str, str]) -> bytes:
    return urlencode(form).encode()


@pytest.mark.parametrize("where", ["label", "metadata", "line"])
def test_another_redaction_rule_makes_other_rows_and_no_second_ones(
    loki_server: LokiServer, tmp_path: Path, where: str
) -> None:
    labels = (*app("a"), *((("customer", CUSTOMER),) if where == "label" else ()))
    metadata = (("customer", CUSTOMER),) if where == "metadata" else ()
    text = f" of {CUSTOMER}" if where == "line" else ""
    push(loki_server, f"rule-{where}", [Line(START + n * SECOND, f"{n}{text}", labels, metadata) for n in range(20)])
    puller = Puller(tmp_path, loki_server.url, f"rule-{where}")
    assert CUSTOMER in str(puller.pull().lines)
    (tmp_path / "mine.toml").write_text(RULE, "utf-8")
    (tmp_path / "aislot.toml").write_text(SETTINGS, "utf-8")
    pulled = puller.pull()
    assert (pulled.exit_code, pulled.lines.total(), CUSTOMER in str(pulled.lines)) == (0, 20, False), pulled.said


def test_another_key_marks_secrets_anew_and_doubles_none(loki_server: LokiServer, tmp_path: Path) -> None:
    token = (("auth", corpus.tokens()["github ghp"]),)
    push(loki_server, "keys", [Line(START + n * MS, f"{n}", app("a"), token) for n in range(20)])
    Puller(tmp_path, loki_server.url, "keys").pull()
    push(loki_server, "keys", [Line(START + SECOND, "late", app("a"))])
    pulled = Puller(tmp_path, loki_server.url, "keys", env={"AISLOT_REDACTION__KEY": "another key of ours"}).pull()
    assert (pulled.exit_code, pulled.lines.total()) == (0, 21)


def test_another_label_name_makes_other_columns(loki_server: LokiServer, tmp_path: Path) -> None:
    push(loki_server, "columns", [Line(START, "x", (*app("a"), ("podname", "p-1")))])
    Puller(tmp_path, loki_server.url, "columns").pull()
    pulled = Puller(tmp_path, loki_server.url, "columns", env={"AISLOT_LOKI__LABELS__POD": "podname"}).pull()
    assert "1 h read" in pulled.said


def test_a_stream_that_begins_while_we_pull_has_its_own_labels_and_comes_once(
    loki_server: LokiServer, tmp_path: Path
) -> None:
    pushed = push(loki_server, "begins", [Line(START + n * 120 * MS + 5, f"{n}", app("a")) for n in range(30_000)])
    listed: list[int] = []
    begun: list[int] = []

    def begins(asked: Asked, number: int) -> None:
        if asked.path.endswith("/series"):
            listed.append(number)
        if is_lines(asked) and len(listed) > 1 and not begun:
            begun.append(number)
            start = int(asked.form["start"]) + SECOND + 7
            labels = (*app("a"), ("pod", "p-1"))
            pushed.update(
                push(loki_server, "begins", [Line(start + n * 10 * SECOND, f"new {n}", labels) for n in range(1, 30)])
            )

    with between(Proxy(loki_server.url, rate=0, hook=begins)) as proxy:
        puller = Puller(tmp_path, proxy.url, "begins", env={"AISLOT_LOKI__WORKERS": "1"})
        puller.pull().check_all(pushed)
        assert begun
        puller.pull().check_all(pushed)


def test_an_app_that_is_no_label_but_metadata_is_counted_once(loki_server: LokiServer, tmp_path: Path) -> None:
    lines = [Line(START + n * 100 * MS, f"{n}", (("job", "x"),), app("web" if n % 3 else "api")) for n in range(12_000)]
    pushed = push(loki_server, "unlabelled", lines)
    pulled = Puller(tmp_path, loki_server.url, "unlabelled").pull()
    pulled.check_all(pushed)
    assert pulled.proof("counted") == pulled.proof("reconciled") == len(lines)


@pytest.mark.parametrize("name", ["__error__", "__error_details__", "__line__", "aislot_at"])
def test_metadata_that_means_something_to_loki_stops_no_pull(
    loki_server: LokiServer, tmp_path: Path, name: str
) -> None:
    namespace = f"means-{name.strip('_').replace('_', '-')}"
    odd = [Line(START + 30 * SECOND + 1, "odd", app("a"), ((name, "boom"),))]
    lines = [Line(START + n * SECOND, f"{n}", app("a"), trace(n % 2)) for n in range(60)]
    pushed = push(loki_server, namespace, [*odd, *lines])
    Puller(tmp_path, loki_server.url, namespace).pull().check_all(pushed)


def test_a_whole_day_without_a_line_is_said_for_selectors_may_choose_nothing(
    loki_server: LokiServer, tmp_path: Path
) -> None:
    pulled = Puller(tmp_path, loki_server.url, "mistyped").pull(MIDNIGHT, MIDNIGHT + DAY)
    assert pulled.exit_code == 0  # every window was asked, answered and reconciled
    assert "no line of a whole day: check loki.selectors" in pulled.said
    pushed = push(loki_server, "mistyped", [Line(START, "x")])
    Puller(tmp_path, loki_server.url, "mistyped").pull(MIDNIGHT, MIDNIGHT + DAY).check_all(pushed)


@pytest.mark.parametrize("apart_ns", [0, 10 * MS, 3 * SECOND])
def test_a_key_over_midnight_is_redacted_on_both_days_however_they_are_pulled(
    loki_server: LokiServer, tmp_path: Path, apart_ns: int
) -> None:
    key = corpus.pem(5)
    namespace = f"key-{apart_ns}"
    middle = MIDNIGHT - len(key) // 2 * apart_ns
    push(loki_server, namespace, [Line(middle + n * apart_ns, line, app("a")) for n, line in enumerate(key)])
    puller = Puller(tmp_path, loki_server.url, namespace)
    puller.pull(MIDNIGHT - HOUR, MIDNIGHT)
    pulled = puller.pull(MIDNIGHT, MIDNIGHT + HOUR)
    assert pulled.lines.total() == len(key)
    assert not any(line in str(pulled.lines) for line in key[1:-1])


def test_a_late_line_inside_of_a_key_leaves_it_redacted(loki_server: LokiServer, tmp_path: Path) -> None:
    key = corpus.pem(5)
    push(loki_server, "inside", [Line(START + n * 15 * SECOND, line, app("a")) for n, line in enumerate(key)])
    puller = Puller(tmp_path, loki_server.url, "inside")
    puller.pull()
    push(loki_server, "inside", [Line(START + 50 * SECOND, "late", app("b"))])
    pulled = puller.pull()
    assert pulled.lines.total() == len(key) + 1
    assert not any(line in str(pulled.lines) for line in key[1:-1])


def test_what_had_no_turn_has_the_first_one_in_the_next_run(loki_server: LokiServer, tmp_path: Path) -> None:
    push(loki_server, "turns", [Line(START, "x")])
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes all the time there is
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        puller = Puller(tmp_path, loki_server.url, "turns", env={"AISLOT_PROMETHEUS__URL": url})
        arguments = [word for word in puller.arguments(START, START + HOUR) if word != "logs"]
        ends = [aislot(*arguments, "--max-runtime", "8s", cwd=tmp_path, env=puller.environment) for _ in range(2)]
    assert [end.returncode for end in ends] == [4, 4], ends
    assert ["✓ logs" in end.stderr for end in ends] == [True, False], ends  # then it is the others' turn
