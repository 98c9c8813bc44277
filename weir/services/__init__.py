"""Services that weir runs, `weir up` which starts them, and an overview of their state."""
