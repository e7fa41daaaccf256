"""The bulletin 通报 (§五(三)): what a superior publishes of a period about the bureaus under it.

`reading` asks the hub's database, `contents` turns figures into a `Bulletin`, and `html`, `docx` and `xlsx` write one
and the same bulletin down; `files` chooses among them.
"""
