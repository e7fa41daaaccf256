"""The hub's metrics. Each is of the one hub of this process."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

ENTRIES: Final = Counter("kx_hub_entries_total", "Journal entries folded and committed.")
BATCHES: Final = Counter("kx_hub_batches_total", "Transactions committed by the fold.")
SEGMENTS: Final = Counter(
    "kx_hub_segments_total",
    "Segments of journals taken in, by outcome: apply, duplicate, superseded, gap, restored, fork, held_back.",
    ["outcome"],
)
HEADS: Final = Counter("kx_hub_heads_total", "Heads of journals taken in.")
POISON: Final = Counter("kx_hub_poison_total", "Messages that can never be folded and were set aside.", ["reason"])
REFILLS: Final = Counter(
    "kx_hub_refills_total",
    "Journals read from their ledgers for what the bus did not bring, by outcome: done, unreachable, refused, failed.",
    ["outcome"],
)
REFOLDS: Final = Counter("kx_hub_refolds_total", "Bureaus folded again from their first entry.")
PARKED: Final = Gauge("kx_hub_parked_entries", "Entries that wait in memory for those before them.")
EXPECTED: Final = Gauge("kx_hub_bureaus_expected", "Bureaus of the hub's scope.")
HEARD: Final = Gauge("kx_hub_bureaus_heard", "Bureaus that were ever heard from.")
UP_TO_DATE: Final = Gauge("kx_hub_bureaus_up_to_date", "Bureaus folded to the end of their journals as last heard.")
QUARANTINED: Final = Gauge(
    "kx_hub_bureaus_quarantined", "Bureaus whose journals contradict themselves and are folded no more: alarm above 0."
)
RESTORED: Final = Gauge(
    "kx_hub_bureaus_restored",
    "Bureaus whose ledgers have lost, by a new generation, what had been folded, until they are rebuilt: alarm "
    "above 0.",
)
RECONCILIATION_MISMATCHES: Final = Gauge(
    "kx_hub_reconciliation_mismatches",
    "What the hub and its ledgers said differently at the last daily comparison: alarm above 0.",
)
RECONCILIATION_UNREACHABLE: Final = Gauge(
    "kx_hub_reconciliation_unreachable", "Ledgers that could not be compared at the last daily comparison."
)
RECONCILED_AT: Final = Gauge(
    "kx_hub_reconciliation_last_success_timestamp_seconds",
    "When a daily comparison with the ledgers was last completed, Unix time.",
)
LAG_SECONDS: Final = Gauge("kx_hub_fold_lag_seconds", "Business time from the record of the newest entry to its fold.")
COMMIT_SECONDS: Final = Histogram(
    "kx_hub_commit_seconds",
    "Time to write one batch durably.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
CASES_OPEN: Final = Gauge(
    "kx_hub_cases_open",
    "Open cases by light (in_time, due_soon, overdue, stopped), of the scope's own bureau and of each of its immediate "
    "subordinates with everything under it: nationally, the provinces.",
    ["branch", "light"],
)
DEADLINES_DUE: Final = Gauge(
    "kx_hub_deadlines_due",
    "Deadlines of the current month that were met or missed, by branch and clock.",
    ["branch", "clock"],
)
DEADLINES_MISSED: Final = Gauge("kx_hub_deadlines_missed", "Those of them that were missed.", ["branch", "clock"])
