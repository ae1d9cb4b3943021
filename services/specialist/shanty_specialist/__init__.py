"""One specialist of a team: `python -m shanty_specialist`, with SHANTY_TEAM, SHANTY_AGENT and SHANTY_NATS_URL."""
