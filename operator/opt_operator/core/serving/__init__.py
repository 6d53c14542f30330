"""What is decided for a served model: snapshot, policies, rules. Pure."""
