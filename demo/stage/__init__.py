"""The stage 演示台: the demonstration's own page, served by the process that runs the federation, on loopback alone.

It leads to the desks and the board, moves the clock, breaks and mends parts, and shows the tree as it is now.
"""
