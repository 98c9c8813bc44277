"""The work: stream jobs. Topics to topics; weir.streams.engine alone knows Faust's inside."""
