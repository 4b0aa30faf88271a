"""Machines of orchestrators on Kafka: commands to them, and what they say to whom."""
