"""Faust agents over pure cores: `processors.core.<name>` decides, `processors.<name>` runs it on Kafka."""
