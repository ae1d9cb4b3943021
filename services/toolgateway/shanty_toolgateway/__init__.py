"""The tool gateway of a team: `python -m shanty_toolgateway`, with SHANTY_TEAM and SHANTY_NATS_URL."""
