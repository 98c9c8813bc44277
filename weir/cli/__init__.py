"""The command `weir`: one module per command or group of them, each with `register(app)`.

`main` finds the modules of this folder: a new command is a new file. Each imports what it needs when it runs.
"""
