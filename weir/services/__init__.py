"""The services that weir runs, one module each; their list (`registry`), `weir up` which starts them (`up`), and an
overview of their state.
"""
