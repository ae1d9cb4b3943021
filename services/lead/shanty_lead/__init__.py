"""The lead of a team: `python -m shanty_lead`, with SHANTY_TEAM and SHANTY_NATS_URL."""
