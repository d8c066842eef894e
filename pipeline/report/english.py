"""Every sentence of the report in English, near each other so that another language can stand beside them.

Templates of `{names}` are filled by `rich.say`; what stands in code is a part of its own. Functions are where a number
decides the form of a word. Heads of sections and columns are in `labels`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def short_day(date: dt.date) -> str:
    """Write a day as a column's head."""
    return f"{date.day} {MONTHS[date.month - 1]}"


def counted(n: int, one: str, many: str = "") -> str:
    """Write a number with its noun, which is named in English and in the singular."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def rules(n: int) -> str:
    """Write how many rules."""
    return {1: "one rule", 2: "two rules", 3: "three rules"}.get(n, f"{n} rules")


def times(n: int) -> str:
    """Write how often, where that is more than once."""
    return "" if n == 1 else f", {n} times"


def more(n: int) -> str:
    """Write that others follow which are not named here."""
    return f" and {n:,} more" if n > 0 else ""


def share(k: int, n: int) -> str:
    """Write k of n."""
    return f"{k:,} of {n:,}"


def hit(failures: int, runs: int) -> str:
    """Say how many attempts failed, and of how many runs where that is known."""
    text = counted(failures, "failed attempt")
    return f"{text} of {counted(runs, 'run')}" if runs else text


def listed(words: Sequence[str]) -> str:
    """Write `a, b and c`."""
    *head, last = words or [""]
    return f"{', '.join(head)} and {last}" if head else last


# the page
ABOUT = "{weekday} {date} 00:00–24:00 UTC · {namespaces} · made {made} UTC"

# verdict
SEEN = "of what was seen, "
OK_OF = "{k} builds and mirrors ok"
OK_RATIO = "{k} builds and mirrors ok ({ratio}, 95{nbsp}% CI {interval})"
OK_NONE, OK_UNKNOWN = "no build or mirror finished", "builds and mirrors not known"
KIND_OF, KIND_NONE = "{kind} {k}", "no {kind} finished"
SLO = "{window} SLO {ratios}, budget {spent} spent"
SLO_BARE = "{window} SLO {ratios}"
SLO_UNKNOWN, SLO_EMPTY = "{window} SLO not known", "{window} SLO: nothing finished"
COMPLETE, INCOMPLETE = "data complete", "data incomplete"
NO_VERDICT = "The data does not allow a verdict: {why}."
BY = "{verdict} by {rules}:"
GREEN_WHY = "no rule for red, grey or amber held; {complete} of {configured} configured sources are complete{holes}."
GREEN_HOLES = ", holes of at most {gap} being overlooked ({key})"
GREEN, GREY = "Green because", "Grey because"
GREY_WHY = "{why}. Nothing that was seen makes the day red."
MAX_GAP = "longer than the {gap} that this install overlooks ({key})"
WINDOW_WORDS = {"7d": "7 days", "24h": "24 hours", "1d": "1 day", "30d": "30 days", "28d": "28 days"}
WINDOWS = {"7d": "7-day", "24h": "1-day", "1d": "1-day", "30d": "30-day", "28d": "28-day"}


def incidents(n: int, still_open: int, *, whole: bool) -> str:
    """Say how many incidents, and whether they are over."""
    if not n:
        return "no incident" if whole else "no incident seen"
    words = counted(n, "incident")
    if still_open:
        return f"{words}, {'' if n == 1 else f'{still_open} '}not recovered"
    return f"{words}, {'' if n == 1 else 'both ' if n == 2 else 'all '}recovered"  # noqa: PLR2004 - English has a dual


REASONS = {
    "page-threshold": "{alert} reached its page threshold at {at}{times}",
    "page-thresholds": "{n} page thresholds were reached, the first at {at}",
    "ticket-threshold": "{alert} reached its ticket threshold at {at}{times}",
    "ticket-thresholds": "{n} ticket thresholds were reached, the first at {at}",
    "incident-not-recovered": "the {class} incident of {at} had not recovered by the day's end",
    "incident-too-long": "the {class} incident took {mttr} to recover, over {limit}",
    "failed-attempt": "{failures}",
    "no-source": "neither jobs nor logs were configured",
    "objective-missed": "{slo} {ratio} is below {objective}",
    "budget-policy": "{spent} of the error budget is spent, so {policy}",
    "hole": "{source}: {holes}, the longest {length}, {over}",
    "hole-one": "{source} has a hole of {length}, {over}",
    "hole-both": "{source} have a hole of {length}, {over}",
    "hole-error": "{source}: {error}",
}
NO_DATA = "no {what} from {start} to {end} ({length}, {share} of the day)"
NO_DATA_AT_ALL = "no {what} of this day"
NO_DATA_MORE = "no {what} for {length} in {holes} ({share} of the day)"
WHAT = {
    "logs": "log lines",
    "jobs": "job data",
    "alerts": "alert data",
    "events": "events",
    "issues": "issue comments",
}
OBJECTIVES = {"build_availability": "build availability", "recovery": "recovery"}
POLICIES = {"freeze": "freeze risky runtime changes", "stabilise": "stabilisation work only", "ok": "none applies"}

# do this
TODO_OPEN = "{what}: {hit} since {start}, not recovered{issue}."
TODO_NEW = "{what} is new: {hit}, {span}{issue}."
TODO_BACK = "{what} returned after {days}: {hit}, {span}{issue}."
TODO_PLAIN = "{what}: {hit}, {span}{issue}."
TODO_ISSUES, TODO_NO_ISSUE = ", {issues}", ", no issue yet"
TODO_RECOVERED = "{action} Recovered {at}."
TODO_MISSED = "{what} reached its {severity} threshold at {at} and nothing fired."
TODO_MISSED_MANY = "{n} alerts should have sent a {severity} and never fired, the first at {at}."
TODO_MISSED_HOW = "Check that {alert} is loaded and routed."
TODO_MISSED_HOW_MANY = "Check that {alert} are loaded and routed."
TODO_HOLE = "Find the cause: {what}."
TODO_HOLE_HOW = "{error}The day is made again when the source fills it: {command}"
TODO_ERROR = "{source} said {error}. "
TODO_SOURCE = "Configure a source of jobs and logs."
TODO_SOURCE_HOW = "Set {keys}."
TODO_GONE = "{n} have no known outcome."
TODO_GONE_HOW = "Look their runs up in the platform: no source saw how they ended."
TODO_OTHER = "{failures} with no known signature{issue}."
TODO_OTHER_KNOWN = "{what}: {hit}."
TODO_OTHER_HOW = "See their lines under {link}; a new signature can be added to the catalogue."
TODO_BUDGET = "Error budget is overspent by {left} failures: {policy}."
TODO_BUDGET_LEFT = "Error budget is {spent} spent, {left} failures left: {policy}."
TODO_BUDGET_HOW = "{failed} in {window}, {allowed} allowed."

# data
SOURCES = {
    ("logs", "loki"): "Loki logs",
    ("logs", "kubernetes"): "kubectl logs",
    ("jobs", "prometheus"): "Prometheus jobs",
    ("jobs", "kubernetes"): "kubectl jobs",
    ("alerts", "prometheus"): "Prometheus ALERTS",
    ("events", "kubernetes"): "Kubernetes events",
    ("issues", "github"): "GitHub comments",
}
UNITS = {
    ("logs", "loki"): "line",
    ("logs", "kubernetes"): "line",
    ("jobs", "prometheus"): "sample",
    ("jobs", "kubernetes"): "job",
    ("alerts", "prometheus"): "interval",
    ("events", "kubernetes"): "event",
    ("issues", "github"): "link",
}
NOT_CONFIGURED = "not configured"
WHOLE_DAY = "the whole day"
PROOF_INCOMPLETE = "incomplete:"
PROOF_LOKI = "{reconciled} of {counted} counted by Loki, every 10 s of every app"
PROOF_SHORT = "in {steps} {rows} rows came of {counted} counted"
PROOF_GONE = "{lines} no longer on the server, kept here"
PROOF_SILENT = "no stream that loki.selectors choose wrote a line all day: check them"
PROOF_UNREAD = "Loki did not read {chunks} of its store: lines may be missing that no count knows of"
PROOF_EXPLAINED = "{n} counted otherwise for a known reason (equal lines with other metadata, or given twice)"
PROOF_HIDDEN = "a part is older than Loki shows or keeps"
PROOF_SCRAPES = "{scrapes} of {expected} scrapes"
PROOF_WITHOUT_HOLE = "{scrapes} of {expected} scrapes, without a hole"
PROOF_NO_SCRAPE = "no scrape of a target that shows Kubernetes jobs"
PROOF_FIRED = "series present; {evaluations} {method}"
PROOF_SEEN = "{evaluations} {method}: nothing was seen to fire"
PROOF_QUIET = "{evaluations} {method}: nothing fired"
PROOF_NO_RULES = "no rule is evaluated there, so no alert could fire; {evaluations} {method}"
PROOF_EVENTS = "{lists} by {method}"
PROOF_LISTED = "{listed} fired as Alertmanager was asked, which keeps no history: nothing is called missed"
PROOF_SHIPPED = "{lines} lines of {counted} counted by Loki ({others} no events, {elsewhere} of other namespaces)"
PROOF_UNPROVEN = "; whether their agent ran all the time nobody tells, so no verdict hangs on them"
PROOF_UNJUDGED = "; nobody pulls them hourly, so no verdict hangs on them"
PROOF_COMMENTS = "{comments} on {pages}"
PROOF_SAVED = "{comments}, saved with the dump"
PROOF_LOGS = "{logs} by {method}, each from its first to its last line"
PROOF_JOBS = "{snapshots} by {method}"
METHODS = {"rule evaluations": "rule evaluations", "server scrapes": "scrapes of the server itself"}
NOTE_PARSED = "Lines not parsed {n}"
NOTE_REDACTED = "redactions {n}"
NOTE_LATE = "late lines {n}, found by a recount and read"
NOTE_UNSTAMPED = "{n} lines without a time of their own"
NOTE_UNREADABLE = "comments that could not be read {n}"
NOTE_ENDS = "attempts with no known outcome: {ends}"
NOTE_ENDS_NONE = "every attempt has a known outcome"
NOTE_AMBIGUOUS = "run links that fit two runs and are left open: {n}"
NOTE_DUMP = "{what} come from a kubectl dump: what it does not show is not known"


def sources(complete: int, judged: int, unsure: int) -> str:
    """Say how many sources are complete, of those that can tell."""
    if not judged + unsure:
        return "no source configured"
    return f"{complete} of {judged} sources complete" + (f", {unsure} cannot tell" if unsure else "")


# golden signals
SIGNALS = {
    "traffic": ("Traffic", "build, mirror attempts started"),
    "errors": ("Errors", "build, mirror, failed of finished"),
    "latency": ("Latency", "{form} of builds{seen}{n}"),
    "backlog": ("Backlog", "not finished, most{at}{pending}"),
    "queue": ("Queue", "the runtime's own, most{at}"),
}
KIND_SIGNAL = "failed of finished"
OF_N, SEEN_ONLY = ", n = {n}", " seen"
NAMED = {"p95": "p95 {time}", "p50": "median {time}"}
OF_DAYS = "{text} ({days} d)"
FORMS = {"p95": "p95", "spread": "median to maximum", "none": "duration"}
RULE_NAMES = {"failed_attempts": "Failure burst", "failure_ratio": "Failure rate"}
RULE, LINES, ATTEMPTS_OF_ALL = "{what}, worst {window}{at}", "lines", "all attempts"
RULE_AT = " to {at}"
MOST_AT, PENDING = " at {at}", "; not started, most {n}"
AT_LEAST, ZERO_SEEN = "at least {n}", "0 seen"
SHARE_SEEN = "{k} seen"
SPREAD = "{low} to {high}"
NONE_FINISHED, NONE_SUCCEEDED = "none finished", "none succeeded"
TOO_FEW = "too few"
NO_THRESHOLD = "none"
REACHED, HELD = "▲ {limit}, {at}", "▲ {limit}, since {at}"
NOT_REACHED, NOT_JUDGED = "{limit}, not reached", "{limit}, too few to judge"
NOT_KNOWN, NOT_KNOWN_FOR = "{limit}, not known", "{limit}, not known {span}"


def usual(days: int) -> str:
    """Write the head of the column of medians."""
    return "7-day median" if days == 7 else f"{days}-day median" if days else "7-day median"  # noqa: PLR2004


def thresholds(reached: int, of: int, hidden: int) -> str:
    """Say how many thresholds were reached."""
    if reached:
        return counted(reached, "threshold") + " reached"
    if hidden:
        return f"{hidden} of {counted(of, 'threshold')} not known"
    return f"0 of {counted(of, 'threshold')} reached"


# build jobs health
FINISHED = "{finished} finished, {failed} failed"
FINISHED_SEEN = "{finished} finished, {failed} failed"
CHART_BARS = "{kinds} attempts finished per 15 min"
CHART_DURATION = "Build duration, minutes: each build, and median to maximum per hour"
CHART_DURATION_SHORT = "Build duration, minutes"
CHART_DURATION_MANY = "Build duration, minutes: median to p95 per hour, maximum where n is under 20"
CHART_LABEL = "{title}: {finished} finished, {failed} of them failed{most}"
CHART_MOST = ", most failures at {at}"
CHART_LANES = "Incidents and alerts on the time axis: {incidents}, {alerts}"
CHART_BUILDS = "{title}: {builds}, longest {longest}"
CHART_P95 = "p95 of the day {p95}"
CHART_STREAM = "{name}: {lines}, {first} to {last}"
LANE_INCIDENTS, LANE_ALERTS = "incidents", "alerts"
LANE_OVER = "{class}: {failures} failed, recovered in {mttr}"
LANE_OPEN = "{class}: {failures} failed, not recovered"
LANE_LATE = "{alert}, {delay}"
LANE_MISSED = "{alert}: nothing fired {span}"
LANE_MISSED_SHORT = "{alert}: nothing fired"
LANE_UNEXPECTED = "{alert} fired: not expected"
LANE_FIRED = "{alert} fired"
LANE_TIMES = "{label}, {n} times"
LANE_STILL = "still firing"
LANE_MORE = "and {n} more"
GAP = "no data"
KEYS = {
    "failed": "failed",
    "ok": "succeeded",
    "cache": "incident cache",
    "build-ref": "incident build-ref",
    "fired": "alert fired",
    "missed": "should have fired",
    "unexpected": "not expected",
    "gap": "no data, so not known",
    "duration": "build duration",
}
NUMBERS = "Numbers of these charts: {windows} of 15 min, and build durations by the hour"
GROUPS = {"build + mirror": "Build and mirror"}

# what failed
NOTHING = "Nothing failed: 0 of {finished} finished attempts. The data is complete, so this is a zero, not a gap."
NOTHING_FINISHED = "Nothing failed, and nothing finished: 0 attempts. The data is complete."
NONE_SEEN = "None seen: 0 of {finished} finished attempts."
NONE_SEEN_GAP = "Not known for {span}."
NONE_SEEN_OFF = "Not known: no source of jobs was configured."
NO_SIGNATURE = "none"
NO_ACTION = "No known signature: read the lines of these jobs."
NEW, RETURNING = "new", "returning after {days}"
NEW_SINCE = "not seen in the {days} before"
ONGOING, RESOLVED = "ongoing", "resolved {at}"
RECOVERED_OF = "{k} recovered"
NEVER = "{k} never succeeded since"
ATTEMPTS = "Failed attempts, {shown} of {n}"
ATTEMPTS_REST = "The other {n} failed attempts"
ATTEMPTS_CUT = "{n} more are in the lake's table {table}, date={date}."
ATTEMPTS_PRINTED = "The failed attempts are listed on the page."
NO_ATTEMPT, NOT_RECOVERED, NO_ISSUE = "no attempt seen", "not recovered", "none yet"
BY_ATTEMPT = "{waited}, attempt {n}"


def what_failed(signatures: int, runs: int | None, *, unsure: bool) -> str:
    """Say by how many signatures how many runs failed."""
    by = (
        counted(signatures, "combination of signatures", "combinations of signatures")
        if signatures
        else "no known signature"
    )
    return by if runs is None else f"{by}, {'at least ' if unsure else ''}{counted(runs, 'run')}"


# error stream
STREAM_NOTE = (
    "Lines of every app per 15 min, each row on its own scale; a line may have two signatures, "
    "and lines are not failures: one is logged by job pod, "
    "control-plane and worker."
)
STREAM_OTHER = "other WARN and ERROR"
STREAM_NONE_SEEN = "No signature line seen; {other} at WARN or ERROR without a signature."
STREAM_NONE = "No signature line; {other} at WARN or ERROR without a signature."
STREAM_UNKNOWN = "Not known: no source of logs was configured."
STREAM_SEEN = "Not known where the logs have a gap: {span}."
STREAM_NUMBERS = "Numbers of these charts: {lines}, by 15 min"
BUSIEST = "{n} from {at}"
BREACHES = "Breaches of the level policy, {lines}"
BREACHES_NONE = "No breach of the level policy: errors are at WARN or ERROR, planned retries and recoveries below."
BREACHES_NONE_SEEN = "No breach of the level policy was seen."
BREACH_RULES = {"too-quiet": "error below WARN", "too-loud": "{about} above INFO"}

# what the failures share
ATTRIBUTES = {"error": "first word of the error", "hour": "hour, UTC,", "attempt": "attempt number", "kind": "kind"}
MATCHES = {"is": "is", "starts with": "starts with"}
AMONG_DAY, AMONG_INCIDENT = "the day", "{class} incident of {at}"
EVERY_KIND = "every kind"
SHARES_ABOUT = (
    "Association, not cause: what failed attempts have more often than successful ones of their kind. Attempts of which "
    "it is not known do not count. Chance is of Fisher's exact test, one-sided, corrected for all {tests} values looked at."
)
SHARES_UNKNOWN = ", {n} not known"
SHARES_NONE = (
    "The failed attempts share nothing that successful ones of their kind do not have as often, beyond chance."
)
SHARES_NO_FAILURE = "Nothing to compare: no failed attempt was seen."
CHANCE_UNDER = "under {p}"
ROWS_MORE = "{n} more are in the lake's table {table}, date={date}."
LINES_TITLE = "Lines of failed attempts that no successful one of their kind has: {n}"
LINES_AGELESS = LINES_TITLE + ". Which are new is not known: the lake has no earlier day"
LINES_NONE = "No line was seen that only failed attempts of a kind have."
AGES = {"new": "new", "returning": "returning", "known": "known"}

# objectives
RECOVERY_WITHIN = "recovery within {limit}"
EACH = "each"
WHY_EMPTY, WHY_YOUNG = "none to count", "not known: not every day was pulled"
SLO_SEEN = "Counted from what was seen: of {days} the job data has holes."
SLO_MISSING = "{days} of the window not pulled. This makes it known: {command}"
PAIRS = {"fast": "fast", "slow": "slow"}
BURN, TOO_FEW_OF = "{rate}× ({share})", "too few ({share})"
PROVEN = {"open": "not recovered", "provisional": "provisional", "confirmed": "confirmed"}
EXCLUSIONS = {"maintenance": "maintenance", "outage": "an outage"}
LEFT_OUT = "Left out for {kind} from {start} to {end}{said}: {attempts}, {incidents}."
LEFT_OUT_NOT = "Not left out: {kind} from {start} to {end}{said} is not confirmed."
MEETS, BELOW, YOUNG = "objectives met", "below objective", "not known yet"

# alerts
AUDIT_OFF = "Not known: no source of alert history was configured."
AUDIT_QUIET = "Nothing should have fired and nothing fired."
AUDIT_QUIET_SEEN = "Nothing should have fired, nothing was seen to fire."
AUDIT_SHOULD = "Should have fired: {alerts}."
AUDIT_SHOULD_ONE = "{alert} at {at}"
AUDIT_GAP = "Alert history has a gap: {span}."
NO, STILL, NEVER_FIRED = "no", "still", "never fired"
LATE, EARLY, AT_ONCE = "{time} late", "{time} early", "at once"
_SILENCED = "– silenced by maintenance"
VERDICTS = {"matched": "✓ matched", "missed": "✕ missed", "silenced": _SILENCED, "unexpected": "! unexpected"}
COUNTS = {"matched": "{n} matched", "missed": "{n} missed", "silenced": "{n} silenced", "unexpected": "{n} unexpected"}

# method
METHOD_SHORT = "{aislot} · queries {queries} · {command}"
METHOD_LAKE = "lake {lake}"
METHOD_SETTINGS = "settings that differ from the defaults: {settings}"
METHOD_NO_SETTINGS = "every setting is the default"
METHOD_ROWS = "rows read: {rows}"
METHOD_TEXT = (
    "Traffic counts attempts by their start, outcomes and durations by their end; durations are of attempts that "
    "succeeded. k of n stands with its 95 % Wilson interval, a percentage from n = 5, a p95 from n = 20. Thresholds are "
    "replayed over this lake's own data at every event, not on a grid. Unknown is never shown as zero."
)
