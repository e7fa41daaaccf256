"""What is told to the outside of what the journal says: web hooks of channels, messages to taxpayers.

A sink (`web_hook`, `notifier`) says which entries it is told of and how one is delivered. The engine looks through the
journal behind a cursor, keeps a row for each delivery in the same transaction as the cursor, and delivers what is due:
at least once, with growing pauses, until it is delivered or given up. What is given up stays listed until somebody has
it tried again or drops it.

What survives a kill is what is committed: an entry is before the cursor and has a row, or behind it and gets one. A
delivery whose answer was lost is made again under the same id.
"""
