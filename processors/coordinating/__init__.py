"""The parts of `processors.coordination`: what runs the machines of `processors.core.coordination` on Kafka."""
