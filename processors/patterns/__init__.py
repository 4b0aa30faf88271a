"""Patterns at work: the topic they live on, and the commands that check, draw, explain and try them."""
