"""工作台, the desk: the web pages where a bureau's officers work, over the same services that terminals call.

No rule of the notice is here. A page asks what a terminal would ask, in this process, for the officer who has
stepped in; which acts are offered is asked of `decide`, what a deadline's light is of the domain.
"""
