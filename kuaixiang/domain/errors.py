"""What can be wrong with an act: named conditions, each with its facts, the rule it rests on and what to do."""

from enum import Enum
from typing import ClassVar

from kuaixiang.domain.words import Custody, Role, Stage

_NOTHING_POSSIBLE = "Nothing can be done with it in this ledger."


class Condition(Enum):
    """What a refusal means to the caller; each boundary maps it to its own status."""

    INVALID = "invalid"
    MISSING = "missing"
    STATE = "state"
    FORBIDDEN = "forbidden"
    CONFLICT = "conflict"
    BUSY = "busy"


class Refused(Exception):
    """An act is refused: nothing has changed.

    `rule` is a stable name, `field` the request's field at fault (empty when none is), `remedy` what to do.
    """

    condition: ClassVar[Condition] = Condition.STATE
    remedy: str = ""
    field: str = ""

    @property
    def rule(self) -> str:
        """The condition's stable name, such as `ActNotAllowed`."""
        return type(self).__name__


class FieldMissing(Refused):
    """A required field is empty (§四(一)1)."""

    condition = Condition.INVALID

    def __init__(self, field: str, because: str) -> None:
        self.field = field
        self.remedy = f"Fill in {field}."
        super().__init__(f"{field} is required: {because}.")


class FieldMalformed(Refused):
    """A field's value cannot be what it stands for. The value itself is never repeated: it may be private."""

    condition = Condition.INVALID

    def __init__(self, field: str, what: str, remedy: str) -> None:
        self.field = field
        self.remedy = remedy
        super().__init__(f"{field} {what}.")


class TimeInFuture(Refused):
    """An act is said to have happened later than now."""

    condition = Condition.INVALID
    field = "header.occurred_at"
    remedy = "Give the time it happened, or leave it out for now."

    def __init__(self, occurred_at: str, now: str) -> None:
        super().__init__(f"header.occurred_at {occurred_at} lies in the future: it is {now}.")


class RecordedTooLate(Refused):
    """An act is recorded longer after it happened than the rules allow."""

    condition = Condition.INVALID
    field = "header.occurred_at"

    def __init__(self, occurred_at: str, workdays_max: int) -> None:
        self.remedy = "Record it with the present time and explain the delay in the note."
        super().__init__(f"header.occurred_at {occurred_at} is more than {workdays_max} working day(s) ago.")


class OutOfOrder(Refused):
    """An act is said to have happened before the case's last one."""

    condition = Condition.INVALID
    field = "header.occurred_at"
    remedy = "Give a time not before the case's last act."

    def __init__(self, occurred_at: str, last_at: str) -> None:
        super().__init__(f"header.occurred_at {occurred_at} is before the case's last act at {last_at}.")


class UnknownCase(Refused):
    """This ledger has no such case."""

    condition = Condition.MISSING
    field = "header.case_id"
    remedy = "Check the number; a case referred elsewhere stays in this ledger."

    def __init__(self, bureau: str, case_id: str) -> None:
        super().__init__(f"Bureau {bureau} has no case {case_id or '(empty)'}.")


class EntryUnreadable(Refused):
    """A journal entry of the case cannot be read: the ledger was changed by something else than this system."""

    remedy = "Tell whoever runs the node: the ledger must be compared with the hub and restored."

    def __init__(self, bureau: str, case_id: str) -> None:
        super().__init__(f"An entry of case {case_id} in the ledger of bureau {bureau} cannot be read.")


class NotThisBureau(Refused):
    """The node does not host the bureau that the request names."""

    condition = Condition.MISSING
    field = "header.bureau"

    def __init__(self, bureau: str, hosted: tuple[str, ...]) -> None:
        self.remedy = f"This node hosts {', '.join(hosted)}."
        super().__init__(f"Bureau {bureau or '(empty)'} is not hosted by this node.")


class ActNotAllowed(Refused):
    """The lifecycle has no such act at this stage."""

    def __init__(self, case_id: str, stage: Stage, act: str, allowed: tuple[str, ...]) -> None:
        self.remedy = f"At this stage one can: {', '.join(allowed)}." if allowed else _NOTHING_POSSIBLE
        super().__init__(f"{act} is not possible: case {case_id} is {stage.name}.")


class NothingOffered(Refused):
    """No offer of the case awaits a decision."""

    remedy = "The case is this bureau's own; go on with it."

    def __init__(self, case_id: str) -> None:
        super().__init__(f"No offer of case {case_id} awaits a decision.")


class CaseFrozen(Refused):
    """The case is offered to another bureau, whose decision is awaited."""

    def __init__(self, case_id: str, to_bureau: str) -> None:
        self.remedy = "Wait for the decision, or ask for the offer to be withdrawn."
        super().__init__(f"Case {case_id} is offered to bureau {to_bureau} and cannot change until that is decided.")


class NotCustodian(Refused):
    """Another bureau is responsible for the case."""

    def __init__(self, case_id: str, with_bureau: str, custody: Custody) -> None:
        self.remedy = f"Ask bureau {with_bureau}, or wait for its conclusion."
        super().__init__(f"Case {case_id} is {custody.name}: bureau {with_bureau} is responsible for it.")


class RoleNotAllowed(Refused):
    """The act is for others to do."""

    condition = Condition.FORBIDDEN
    field = "header.role"

    def __init__(self, act: str, role: Role, allowed: tuple[Role, ...]) -> None:
        self.remedy = f"It takes the role {' or '.join(r.name for r in allowed)}."
        super().__init__(f"{act} is not for the role {role.name}.")


class SamePerson(Refused):
    """Two acts that need two people were tried by one."""

    condition = Condition.FORBIDDEN
    field = "header.actor"

    def __init__(self, act: str, actor: str, other: str) -> None:
        self.remedy = "Somebody else must do it."
        super().__init__(f"{act} is not for {actor}, who {other}.")


class VersionConflict(Refused):
    """The case has changed since the caller looked."""

    condition = Condition.CONFLICT
    field = "header.expected_version"
    remedy = "Read the case again and decide anew."

    def __init__(self, case_id: str, expected: int, actual: int) -> None:
        super().__init__(f"Case {case_id} is at version {actual}, not {expected}.")


class KeyReused(Refused):
    """A request key came back with another act."""

    condition = Condition.CONFLICT
    field = "header.request_key"
    remedy = "Use a new key for a new act."

    def __init__(self, key: str) -> None:
        super().__init__(f"The request key {key} was used before for a different act.")


class NotTold(Refused):
    """A case leaves the desk and the taxpayer has not been told (§四(一)2)."""

    field = "telling"
    remedy = "Tell the taxpayer, and say what was told."

    def __init__(self, case_id: str) -> None:
        super().__init__(f"Case {case_id} cannot leave the desk before the taxpayer has been told.")


class ExtensionTooLate(Refused):
    """An extension was asked for after the deadline (§四(二)1)."""

    remedy = "The deadline stands as missed; complete the case and explain."

    def __init__(self, case_id: str, due_at: str) -> None:
        super().__init__(
            f"The deadline of case {case_id} passed at {due_at}; an extension is asked and given before it."
        )


class ExtensionTooLong(Refused):
    """An extension would take the whole limit past the notice's (§四(二)1)."""

    condition = Condition.INVALID
    field = "workdays"

    def __init__(self, asked: int, limit: int, total_max: int) -> None:
        self.remedy = f"Ask for at most {total_max - limit} working day(s)."
        super().__init__(f"{limit} + {asked} working days would exceed the {total_max} that the notice allows.")


class ExtensionOnce(Refused):
    """A second extension (§四(二)1 allows one)."""

    remedy = "Complete the case; a further delay cannot be approved."

    def __init__(self, case_id: str) -> None:
        super().__init__(f"Case {case_id} has had its extension.")


class NoExtensionAsked(Refused):
    """There is nothing to approve or refuse."""

    remedy = "The handler asks first."

    def __init__(self, case_id: str) -> None:
        super().__init__(f"No extension is asked for on case {case_id}.")


class ExtensionPending(Refused):
    """An extension has been asked for and is not decided."""

    remedy = "Wait for the leader's decision."

    def __init__(self, case_id: str) -> None:
        super().__init__(f"An extension is already asked for on case {case_id}.")


class PartsOpen(Refused):
    """Joint handling: not every department has done its part (§四(二)2)."""

    def __init__(self, case_id: str, departments: tuple[str, ...]) -> None:
        self.remedy = "Each assisting department completes its part first."
        super().__init__(f"Case {case_id} waits for {', '.join(departments)}.")


class NotAPart(Refused):
    """The department has no open part in the joint handling."""

    condition = Condition.INVALID
    field = "header.department"

    def __init__(self, case_id: str, department: str, open_parts: tuple[str, ...]) -> None:
        self.remedy = f"Open parts: {', '.join(open_parts) or 'none'}."
        super().__init__(f"Department {department} has no open part in case {case_id}.")


class UnknownAddressee(Refused):
    """The bureau a case is to go to is not in the tree, or is this one."""

    condition = Condition.INVALID
    field = "final_bureau"
    remedy = "Name another bureau of the tree by its six-digit code."

    def __init__(self, code: str) -> None:
        super().__init__(f"A case cannot be referred to {code or '(empty)'}.")


class NotReceived(Refused):
    """A case that no bureau sent cannot be returned."""

    remedy = "Refer it to the bureau in charge instead."

    def __init__(self, case_id: str) -> None:
        super().__init__(f"Case {case_id} was registered here; there is nobody to return it to.")


class LedgersDisagree(Refused):
    """Write-off before the other ledgers of the case have acknowledged its conclusion (§五(三))."""

    def __init__(self, case_id: str, bureaus: tuple[str, ...]) -> None:
        self.remedy = "It is delivered by itself as soon as the bureau can be reached; try again then."
        super().__init__(f"Case {case_id}: the conclusion has not reached bureau {', '.join(bureaus)} yet.")


class DissatisfactionOpen(Refused):
    """A taxpayer who is not satisfied needs a reopening or an explanation (§四(四))."""

    remedy = "Reopen the case, or record the follow-up with an explanation."

    def __init__(self, case_id: str) -> None:
        super().__init__(f"The taxpayer of case {case_id} is not satisfied and nothing explains why that stands.")


class ImpossibleConclusion(Refused):
    """A conclusion came from a bureau that cannot have concluded the case."""

    condition = Condition.FORBIDDEN

    def __init__(self, case_id: str, from_bureau: str) -> None:
        self.remedy = "Compare both ledgers: one of them is wrong."
        super().__init__(f"Bureau {from_bureau} concludes case {case_id}, which this ledger did not give to it.")
