"""The agent of one host: it starts, watches and ends workers, and holds their newest states."""
