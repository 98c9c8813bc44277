"""The sections of the configuration: a component's settings are declared in the file of its name."""
