"""Who signs in at a service, and what he proves it with: passwords, an identity provider, sessions, channels' tokens.

A node and a hub have one `Officers` each, which their gRPC server and their pages ask. What is kept (sessions, tokens,
pauses after wrong passwords) is in a small database of its own, `store`: it is no journal, nothing is folded from it,
and losing it costs a new sign-in.
"""
