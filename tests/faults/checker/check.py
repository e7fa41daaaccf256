"""The checker: every rule held against a history. A rule is a function of a history that gives a sentence for each fault.

Used alike by the simulation (`tests/simulation`) and by the faults against real processes.
"""

from collections.abc import Callable

from tests.faults.checker import acts, custody, endings, figures
from tests.faults.checker.history import History

Rule = Callable[[History], list[str]]

RULES: tuple[Rule, ...] = (
    acts.chains_verify,
    acts.witnesses_are_borne_out,
    acts.answered_acts_are_there_once,
    acts.acts_are_done_at_most_once,
    acts.refused_acts_are_nowhere,
    acts.answers_come_in_the_order_of_acts,
    acts.numbers_name_one_case,
    custody.one_custodian_at_every_moment,
    custody.each_ledger_acts_on_what_it_has,
    custody.decisions_are_made_once_and_believed,
    custody.nobody_waits_unseen,
    endings.conclusions_reach_every_ledger,
    endings.orders_are_the_same_in_every_ledger,
    endings.clocks_count_once,
    figures.the_hub_says_what_the_journals_add_up_to,
    figures.the_hub_stands_where_the_journals_do,
)


def faults_in(history: History) -> list[str]:
    """Every sentence that the history refutes, each after its rule's name; empty when all is well."""
    return [f"{rule.__name__}: {fault}" for rule in RULES for fault in rule(history)]
