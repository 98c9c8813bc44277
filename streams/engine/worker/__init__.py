"""A worker: Faust's membership around the data plane."""
