"""Tables and their transactions on Kafka: how commands reach the arbiter, and how its answers are told."""
