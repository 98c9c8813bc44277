"""The command `weir`: one module per group of subcommands, each importing what it needs when it runs."""
