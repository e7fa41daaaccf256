"""督导台, the board: the web pages where supervisors see the figures of their scope, and what is under each of them.

No figure has a calculation here. A page asks the hub's own services in this process what a terminal would ask; rates,
growth and ranks are told by the functions that write the bulletin.
"""
