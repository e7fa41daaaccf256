"""The rules of the notice, pure: standard library only, no input or output, no clock."""
