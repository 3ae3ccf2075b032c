"""What `python -m labkit COMMAND` can do, one file a command."""
