"""The services that weir runs, one module each; their list (`registry`: workers and sinks come from the registries of
jobs and consumers); `weir up`, which starts them (`up`); and an overview of their state.
"""
