"""Between bureaus: how a case, and later how it ended, reaches another ledger and is neither lost nor held twice.

The server (`server`) decides what a peer asks; its recorded decision is the only commit point. The courier (`courier`)
tells peers what they are owed, through the links of the client (`client`), with what the ledger says of the case at
that moment (`offers`) or of a supervision order (`statements`), sealed by the node's key (`seal`).

Directives of headquarters (`directives`) are not sent but fetched: a node asks the nearest superior's node that answers
for those it lacks, now and then and when it is woken. They are signed, so that it does not matter who passes them on.

There is no queue beside the ledger. What a peer is owed is a projection of the cases: an offer that is not decided, a
withdrawal that is not answered, a conclusion that is not acknowledged; and of the supervision orders: what the issuer
says of one on its way down, what the receiver says on its way up. So nothing has to be handed over between "it is
recorded" and "it will be sent", and what was overtaken (an offer withdrawn meanwhile, a case reopened after it was
concluded) is never sent in its old form: a message is made when it is sent, and its id makes it the same message.

A peer that this very node keeps the ledger of is told in the process, by the server's own methods: a node that calls
itself waits twice behind what others ask of it.

Each pair of one of our bureaus and one peer is a destination of its own, with one bounded batch in flight:

- what happens to one peer's link holds up nobody else's;
- the calls of a batch concern different cases, so that their order does not matter; there is never a second message
  about the same case under way to the same peer;
- a peer that is away costs one attempt per pause, after the batch that found it away, however much waits for it. One
  that answers again is told one message, then two, four, up to a batch: what a busy node did not answer in time must
  not keep it busy. It is waited for twice as long as it took last, up to a minute, for the same reason.

Files of a case are brought beside the batches (`PutAttachment`), when a receiver has answered an offer by saying which
it misses: 20 MiB over a slow line hold up that one case. What broke off sets the case aside; the answer to its next
offer says from which byte to go on.

Two kinds of failure are told apart. One that says nothing about the message (the peer is away, late, too busy) pauses
the whole destination, doubling up to a minute. That is persisted, so that a node that restarts among hundreds of
unreachable peers does not knock on all of them at once; a peer that calls in is there, and its pause ends. One that is
about the message (the peer refuses the call as malformed, forbidden, impossible) sets that one case aside under a
growing pause of its own, logged and counted, and the others go on. Neither is ever a decision, and neither is ever
given up: the case stays OFFERED, which is visible, and the age of the oldest thing owed is a metric to alarm on.

What survives a restart: everything owed, by whom it is owed and since when (the ledger), and each destination's pause
(`peers`). What does not: which calls were under way, which is harmless, since every call may be repeated and its answer
is the same; and which cases were set aside, which are then tried once more and set aside again.
"""
