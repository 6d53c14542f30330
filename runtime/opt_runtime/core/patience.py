"""How long is waited for who stands still: known to those who wait, and to those who judge them by it."""

PARTNER_PATIENCE_S = 2.0
"""A partner that does not take a copy for so long is given up for this step; recovery may then redo more.

Where only an agent stands still, its peers go on after so long; before that they are no witnesses that a host is lost.
"""
AGENT_PATIENCE_S = 60.0
"""An agent that is not heard for so long is given up, though its ranks train on, where a spare can take its place.

Meanwhile its ranks keep no copies elsewhere, and nobody hears what they say of themselves.
"""
