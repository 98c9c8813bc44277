"""The work: stream jobs. Topics to topics; streams.engine alone knows Faust's inside."""
