"""What a node answers to a stream of registrations, whichever release it is of.

A node of the first release reads one registration of a message alone. Of a message with many it reads none, and refuses
the nothing that it has read, in a response without `answers`: by this it is known, and asked again one by one.
"""

from collections.abc import Sequence

from kuaixiang.wire.v1 import case_pb2


class ReadsOneAlone(Exception):
    """Many registrations of a message were sent to a node that reads one alone; none of them has been registered."""


def answers_in(response: case_pb2.RegisterCasesResponse, *, sent_alone: bool) -> Sequence[case_pb2.RegistrationAnswer]:
    """The answers of a response; that to a registration which was sent alone as if it had been one of many.

    Raises `ReadsOneAlone`.
    """
    if response.answers:
        return response.answers
    if not sent_alone:
        raise ReadsOneAlone
    answer = case_pb2.RegistrationAnswer(index=response.index)
    if response.HasField("accepted"):
        accepted = response.accepted
        answer.accepted.case_id = accepted.case.case_id
        answer.accepted.seq = accepted.seq
        answer.accepted.repeated_request = accepted.repeated_request
    else:
        answer.refused.CopyFrom(response.refused)
    return [answer]
