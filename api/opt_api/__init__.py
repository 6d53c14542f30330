"""The resource models, the plan, and every document that crosses a process boundary."""
