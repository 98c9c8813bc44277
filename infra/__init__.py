"""The ground: configuration, command line, embedded servers, SQL, logs, supervision."""
